"""The tensors of a model folder by their files' headers: names, shapes and places, without torch. Quick at any size."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier.config.faults import Fault, RefusedInput
from espalier.storage.published import open_published, read_published

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_MAX_HEADER_BYTES = 100 * 10**6  # the safetensors library's own bound
_MAX_INDEX_BYTES = 64 * 2**20
_CHUNK_BYTES = 4 * 2**20


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: bytes [begin, end) of a file.

    Attributes:
        dtype: as safetensors writes it, `BF16`.
    """

    file: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def stored_tensors(folder: Path, *, setting: str) -> dict[str, StoredTensor]:
    """Every tensor of a model folder, by its name there.

    Args:
        setting: that names the folder, for messages.

    Raises:
        RefusedInput: no safetensors files, or some that are missing, damaged, cut short or no plain files.
    """
    found: dict[str, StoredTensor] = {}
    for file in weight_files(folder, setting=setting):
        try:
            found |= _header(folder, file)
        except FileNotFoundError:
            allowed = "every file that the index names; fetch the model again"
            raise _refused(folder, file, None, allowed, setting=setting) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
            reason = str(error) if isinstance(error, ValueError) else "damaged"
            allowed = f"a whole safetensors file of the folder's own ({reason}); fetch the model again"
            raise _refused(folder, file, file, allowed, setting=setting) from None
    return found


def weight_files(folder: Path, *, setting: str) -> tuple[str, ...]:
    """Names of the files that hold the weights: one, or those that the index names."""
    names = sorted(path.name for path in folder.iterdir())
    if WEIGHTS in names:
        return (WEIGHTS,)
    if INDEX not in names:
        pickled = [name for name in names if name.endswith(_PICKLED)]
        given = f"{folder} with {pickled[0]}" if pickled else str(folder)
        allowed = (
            f"a folder with {WEIGHTS}, or shards and {INDEX}; "
            "pickled weights can run code: where you trust them, load them once and `save_pretrained`"
        )
        raise RefusedInput([Fault(setting, given, allowed)])
    try:
        weight_map = json.loads(read_published(folder, INDEX, max_bytes=_MAX_INDEX_BYTES))["weight_map"]
        files = sorted(set(weight_map.values()))
        if not files or not all(_PLAIN_NAME.fullmatch(name) for name in files):
            raise ValueError("it names files that are none of the folder's")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "another form"
        allowed = f"a JSON file whose `weight_map` gives each tensor's file ({reason}); fetch the model again"
        raise _refused(folder, INDEX, INDEX, allowed, setting=setting) from None
    return tuple(files)


def same_values(folder: Path, one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two tensors hold the same bits; read in bounded memory."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    pairs = zip(_chunks(folder, one), _chunks(folder, other), strict=True)
    return all(first == second for first, second in pairs)


def _header(folder: Path, name: str) -> dict[str, StoredTensor]:
    with open_published(folder, name) as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= _MAX_HEADER_BYTES:
            raise ValueError("it begins with no header")
        header: dict[str, dict[str, Any]] = json.loads(file.read(length))
        size = file.seek(0, 2)
    start, found = 8 + length, {}
    for tensor, entry in header.items():
        if tensor == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        shape: Sequence[int] = entry["shape"]
        if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)) or end < begin:
            raise ValueError("its header is damaged")
        if start + end > size:
            raise ValueError("it is cut short")
        found[tensor] = StoredTensor(name, str(entry["dtype"]), tuple(shape), start + begin, start + end)
        if math.prod(shape) == 0:
            raise ValueError(f"`{tensor}` is empty")
    return found


def _chunks(folder: Path, tensor: StoredTensor) -> Iterator[bytes]:
    with open_published(folder, tensor.file) as file:
        file.seek(tensor.begin)
        left = tensor.end - tensor.begin
        while left > 0:
            chunk = file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk


def _refused(folder: Path, part: str, value: object, allowed: str, *, setting: str) -> RefusedInput:
    return RefusedInput([Fault(f"{setting} ({folder}): {part}", value, allowed)])
