"""A few lines of text from a model, for a person to read."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from espalier.engine.frozen import FrozenModel
from espalier.models.pretrained import PretrainedTokenizer

SAMPLE_TOKENS = 40


@torch.no_grad()
def continuations(model: FrozenModel, tokenizer: PretrainedTokenizer, prompts: Sequence[str]) -> list[dict[str, str]]:
    """The most likely continuation of each prompt, no four tokens twice, {prompt, text} each.

    Every worker writes the same text at the same pace, so that it works on a sharded model, too.
    """
    samples = []
    for prompt in prompts:
        ids = tokenizer.encode([prompt])[0]
        device = model.network.model.device
        written = model.network.model.generate(
            input_ids=torch.tensor([ids], device=device),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=device),
            max_new_tokens=SAMPLE_TOKENS,
            do_sample=False,
            no_repeat_ngram_size=4,
            pad_token_id=tokenizer.eos_id,
        )
        samples.append({"prompt": prompt, "text": tokenizer.decode(written[0, len(ids) :].tolist())})
    return samples
