"""Writing a plain model folder: tensor by tensor, complete or not there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors.torch import save
from torch import Tensor

from espalier.checkpoint.export_mark import MARK, is_left_over, require_replaceable, write_mark
from espalier.checkpoint.huggingface import CONFIG, INDEX, WEIGHTS, ModelFolder
from espalier.checkpoint.manifest import FileRecord
from espalier.storage.contract import is_unfinished, replace_folder, unfinished
from espalier.storage.local import LocalStorage


def write_folder(
    storage: LocalStorage,
    folder: str,
    *,
    model: ModelFolder,
    dtype: torch.dtype,
    max_shard_bytes: int = 2 * 2**30,
    check: Callable[[Path], None] = lambda made: None,
) -> None:
    """Write a model folder; it appears when it is complete, in place of an earlier one.

    Memory is bounded by two shards, and a shard by `max_shard_bytes` or its only tensor.

    Args:
        folder: in a storage; what is unfinished lies beside it. One process at a time may write it.
        model: `config` is written as it is, so its `dtype` should be the one given here.
        dtype: of floating-point tensors; others keep theirs.
        check: looks at the complete folder before it has its name; what it raises leaves nothing of the new one.

    Raises:
        RefusedInput: something else than such an export lies there. Nothing was written.
    """
    require_replaceable(storage.root / folder)
    made = unfinished(folder)
    storage.make_folder(made)
    shards = _shards(model.shapes, dtype.itemsize, max_shard_bytes)
    plain = {**model.files, CONFIG: _json(model.config)}
    names = [*plain, *_shard_files(len(shards)), *([INDEX] if len(shards) > 1 else [])]
    write_mark(storage, made, dict.fromkeys(names))  # first, so that what a kill leaves is known as ours
    written = _write_weights(storage, made, model=model, dtype=dtype, shards=shards)
    for name, data in plain.items():
        written[name] = _write(storage, f"{made}/{name}", data)
    write_mark(storage, made, {**written})
    storage.sync_folder(made)
    try:
        check(storage.root / made)
    except Exception:
        _remove(storage, made)
        raise
    require_replaceable(storage.root / folder, verify=False)  # writing may have taken hours
    replace_folder(storage, made, folder, remove=lambda old: _remove(storage, old))
    _sweep(storage, folder)


def _sweep(storage: LocalStorage, folder: str) -> None:
    """Remove what earlier writers of this export left when they were stopped; last, as it may be the earlier export."""
    parent, _, own = folder.rpartition("/")
    for name in storage.list(parent or "."):
        if is_unfinished(name, of=own) and is_left_over(storage.root / parent / name):
            _remove(storage, f"{parent or '.'}/{name}")


def _remove(storage: LocalStorage, folder: str) -> None:
    """The mark goes last: stopped half-way, what remains is still known as an export's."""
    for name in storage.list(folder):
        if name != MARK:
            storage.remove(f"{folder}/{name}")
    storage.remove(folder)


def _write_weights(
    storage: LocalStorage, folder: str, *, model: ModelFolder, dtype: torch.dtype, shards: Sequence[Sequence[str]]
) -> dict[str, FileRecord]:
    total_bytes = 0
    weight_map: dict[str, str] = {}
    written: dict[str, FileRecord] = {}
    for file, names in zip(_shard_files(len(shards)), shards, strict=True):
        tensors = {name: _cast(model.read(name), dtype) for name in names}
        written[file] = _write(storage, f"{folder}/{file}", save(tensors, {"format": "pt"}))
        total_bytes += sum(tensor.nbytes for tensor in tensors.values())
        weight_map |= dict.fromkeys(names, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
        written[INDEX] = _write(storage, f"{folder}/{INDEX}", _json(index))
    return written


def _write(storage: LocalStorage, path: str, data: bytes) -> FileRecord:
    storage.write_bytes(path, data)
    return FileRecord(num_bytes=len(data), xxh3=xxhash.xxh3_128_hexdigest(data))


def _shard_files(count: int) -> list[str]:
    return (
        [WEIGHTS] if count == 1 else [f"model-{number + 1:05d}-of-{count:05d}.safetensors" for number in range(count)]
    )


def _shards(shapes: Mapping[str, tuple[int, ...]], item_bytes: int, max_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    held_bytes = 0
    for name, shape in shapes.items():
        num_bytes = torch.Size(shape).numel() * item_bytes
        if shards[-1] and held_bytes + num_bytes > max_bytes:
            shards.append([])
            held_bytes = 0
        shards[-1].append(name)
        held_bytes += num_bytes
    return shards


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
