"""How many tokens go through the head at a time."""

from __future__ import annotations

from collections.abc import Sequence

from espalier.objectives.gradients import NUM_BUFFERS
from espalier.objectives.terms import Term

# CPU: small enough to stay in the last-level cache, large enough that the weight's gradient, read and written once a
# chunk, costs little. GPU: the same trade against its memory; 2 GiB gives a vocabulary of 128k about 1,000 tokens.
MEMORY_BYTES = {"cpu": 64 * 2**20, "cuda": 2 * 2**30}
_BUFFER_ITEM_BYTES = 4  # fp32
_ALIGNMENT_TOKENS = 32  # matrix kernels work in tiles


def chunk_size(memory_bytes: int, vocabulary: int, *, terms: Sequence[Term]) -> int:
    """Tokens whose logits and what is derived from them fit into `memory_bytes`; at least 1.

    The gradients that come out (hidden [N, D], head [V, D] in fp32) are not part of the bound.
    """
    tensors = max(NUM_BUFFERS[term.function] for term in terms)
    if len(terms) > 1:
        tensors += 3  # logits of both models are kept for the next term, beside the gradient so far
    tokens = memory_bytes // (_BUFFER_ITEM_BYTES * vocabulary * tensors)
    return max(1, tokens // _ALIGNMENT_TOKENS * _ALIGNMENT_TOKENS or tokens)


def default_chunk_size(device_type: str, vocabulary: int, *, terms: Sequence[Term]) -> int:
    """`chunk_size` under the bound for this kind of device."""
    return chunk_size(MEMORY_BYTES.get(device_type, MEMORY_BYTES["cuda"]), vocabulary, terms=terms)
