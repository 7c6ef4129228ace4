"""Greedy text samples from a model, for people to read."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from espalier.config.sizes import SAMPLE_TOKENS
from espalier.engine.frozen import FrozenModel
from espalier.models.pretrained import PretrainedTokenizer


@torch.no_grad()
def continuations(
    model: FrozenModel, tokenizer: PretrainedTokenizer, prompts: Sequence[str], *, positions: int
) -> list[dict[str, str]]:
    """Greedy continuation of each prompt, without repeated 4-grams, as {prompt, text}. Collective.

    Every worker generates the same tokens in the same steps, as a sharded model needs.

    Args:
        positions: learned positions of the model; 0 without any. Generation stops at them, and a prompt that fills
            them is cut at its start; planning refuses such prompts when it has the tokenizer.
    """
    samples = []
    for prompt in prompts:
        ids = tokenizer.encode_prompt(prompt)
        ids = ids[1 - positions :] if positions else ids
        device = model.network.model.device
        written = model.network.model.generate(
            input_ids=torch.tensor([ids], device=device),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=device),
            max_new_tokens=min(SAMPLE_TOKENS, positions - len(ids)) if positions else SAMPLE_TOKENS,
            do_sample=False,
            no_repeat_ngram_size=4,
            pad_token_id=tokenizer.eos_id,
        )
        samples.append({"prompt": prompt, "text": tokenizer.decode(written[0, len(ids) :].tolist())})
    return samples
