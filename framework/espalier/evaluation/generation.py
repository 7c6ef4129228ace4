"""Samples of a model's text, for people to read."""

from __future__ import annotations

from collections.abc import Sequence

from espalier.config.sizes import SAMPLE_TOKENS
from espalier.engine.frozen import FrozenModel
from espalier.models.pretrained import PretrainedTokenizer


def continuations(
    model: FrozenModel, tokenizer: PretrainedTokenizer, prompts: Sequence[str], *, positions: int
) -> list[dict[str, str]]:
    """Greedy continuation of each prompt, in which no 4-gram occurs twice, as {prompt, text}.

    Every worker generates the same tokens in the same steps, as a sharded model needs.

    Args:
        positions: rows of the model's position table, which bound prompt and continuation together; 0 where it has
            none. A prompt that fills the table loses its start: planning has refused those, unless it did not have
            the tokenizer yet.
    """
    samples = []
    for prompt in prompts:
        ids = tokenizer.encode_prompt(prompt)
        ids = ids[1 - positions :] if positions else ids
        room = min(SAMPLE_TOKENS, positions - len(ids)) if positions else SAMPLE_TOKENS
        written = model.network.continuation(ids, max_new_tokens=room, pad_id=tokenizer.eos_id)
        samples.append({"prompt": prompt, "text": tokenizer.decode(written)})
    return samples
