"""The bytes of a safetensors file, as views of the tensors' own memory.

The library's own writer copies every value twice while it holds the interpreter's lock, and the steps that run
beside a save would wait for that; its files can be read by their owner alone, and its errors are no `OSError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch import Tensor

_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_ALIGNMENT = 8


def safetensors_parts(tensors: Mapping[str, Tensor]) -> list[memoryview]:
    """The parts of the file, in order. The tensors must not change until they are written.

    Args:
        tensors: contiguous, on the host.
    """
    header: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return [memoryview(len(text).to_bytes(8, "little") + text), *map(_bytes_of, tensors.values())]


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().data
