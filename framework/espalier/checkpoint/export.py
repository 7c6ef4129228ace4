"""Writing a plain model folder: tensor by tensor, complete or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from espalier.checkpoint.huggingface import CONFIG, INDEX, WEIGHTS, ModelFolder
from espalier.config.faults import Fault, RefusedInput
from espalier.storage.contract import Storage, is_unfinished, replace_folder, unfinished


def write_folder(
    storage: Storage, folder: str, *, model: ModelFolder, dtype: torch.dtype, max_shard_bytes: int = 2 * 2**30
) -> None:
    """Write a model folder; it appears when it is complete, in place of an earlier one.

    Memory is bounded by two shards, and a shard by `max_shard_bytes` or its only tensor.

    Args:
        folder: in a storage; what is unfinished lies beside it. One process at a time may write it.
        model: `config` is written as it is, so its `dtype` should be the one given here.
        dtype: of floating-point tensors; others keep theirs.

    Raises:
        RefusedInput: the folder holds something that is no model.
    """
    names = storage.list(folder)
    if names and CONFIG not in names:
        raise RefusedInput([Fault(folder, ", ".join(names), "a new or empty folder, or an earlier export")])
    parent, _, own = folder.rpartition("/")
    for name in storage.list(parent or "."):
        if is_unfinished(name, of=own):
            storage.remove(f"{parent or '.'}/{name}")
    made = unfinished(folder)
    storage.make_folder(made)
    shards = _shards(model.shapes, dtype.itemsize, max_shard_bytes)
    _write_weights(storage, made, model=model, dtype=dtype, shards=shards)
    for name, data in {**model.files, CONFIG: _json(model.config)}.items():
        storage.write_bytes(f"{made}/{name}", data)
    storage.sync_folder(made)
    replace_folder(storage, made, folder)


def _write_weights(
    storage: Storage, folder: str, *, model: ModelFolder, dtype: torch.dtype, shards: Sequence[Sequence[str]]
) -> None:
    total_bytes = 0
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = WEIGHTS if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {name: _cast(model.read(name), dtype) for name in names}
        storage.write_bytes(f"{folder}/{file}", save(tensors, {"format": "pt"}))
        total_bytes += sum(tensor.nbytes for tensor in tensors.values())
        weight_map |= dict.fromkeys(names, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
        storage.write_bytes(f"{folder}/{INDEX}", _json(index))


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
