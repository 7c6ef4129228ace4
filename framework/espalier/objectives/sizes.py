"""How many tokens go through the head at a time, and how many through its softmax.

A chunk goes through the matrix products; of its logits, both models' and their gradient stand in memory.
Inside it, a block goes through everything that is done element by element, so that what is derived from the
logits on the way, several tensors for some divergences, is small beside them.
"""

from __future__ import annotations

# CPU: large enough that the head's gradient, read and written once a chunk, costs little; small enough that
# malloc reuses the memory (from 32 MiB on glibc returns each piece to the system, and getting it back doubles
# the time). GPU: the same trade: a vocabulary of 128k gets about 1,000 tokens.
MEMORY_BYTES = {"cpu": 72 * 2**20, "cuda": 3 * 2**29}
# Of one model's logits; what is derived from them takes two to five times as much. Smaller blocks make the
# threads of a CPU (the figure is for one) wait for each other more often, and a GPU launch more kernels.
BLOCK_BYTES = {"cpu": 2**23, "cuda": 2**28}
_CHUNK_TENSORS = 3
_ITEM_BYTES = 4  # fp32
_TILE_TOKENS = 32  # matrix products run best in whole tiles
# With the fused kernel the logits of a block exist at a time, and of a chunk their gradient in bfloat16. The head's
# gradient is added up in float32 in memory once a chunk, and the product by the head has few tiles for a GPU to share:
# both want many tokens. By this memory, and not by what is free: results would depend on what else a GPU does.
FUSED_CHUNK_BYTES = 2**29
FUSED_BLOCK_BYTES = 2**28
FUSED_GRADIENT_BYTES = 2  # bfloat16
_GPU_TILE_TOKENS = 128


def chunk_size(memory_bytes: int, vocabulary: int) -> int:
    """Tokens in a chunk, at least 1, whose logits stay within `memory_bytes`.

    The gradients that come out (hidden [N, D], head [V, D] in fp32) are not part of the bound.
    """
    tokens = max(1, memory_bytes // (_CHUNK_TENSORS * _ITEM_BYTES * vocabulary))
    return tokens if tokens < _TILE_TOKENS else tokens // _TILE_TOKENS * _TILE_TOKENS


def default_chunk_size(device_type: str, vocabulary: int) -> int:
    """`chunk_size` under the bound for this kind of device."""
    return chunk_size(MEMORY_BYTES[device_type], vocabulary)


def block_size(device_type: str, vocabulary: int, *, num_threads: int) -> int:
    """Tokens in a block, at least one per thread on a CPU."""
    tokens = max(1, BLOCK_BYTES[device_type] // (_ITEM_BYTES * vocabulary))
    return tokens * num_threads if device_type == "cpu" else tokens


def fused_chunk_size(vocabulary: int) -> int:
    """Tokens in a chunk of the fused kernel, whose gradient by the logits stays within `FUSED_CHUNK_BYTES`."""
    return _in_tiles(FUSED_CHUNK_BYTES // (FUSED_GRADIENT_BYTES * vocabulary))


def fused_block_size(vocabulary: int) -> int:
    """Tokens whose logits, the student's and the teacher's, stay within `FUSED_BLOCK_BYTES`."""
    return _in_tiles(FUSED_BLOCK_BYTES // (2 * _ITEM_BYTES * vocabulary))


def _in_tiles(tokens: int) -> int:
    return max(1, tokens if tokens < _GPU_TILE_TOKENS else tokens // _GPU_TILE_TOKENS * _GPU_TILE_TOKENS)
