"""An old checkpoint and a new one beside it, on any storage."""

from __future__ import annotations

import torch
from checkpoint_cases import cut, make_tensors, save_ranks

from espalier.checkpoint.read import StateReader
from espalier.checkpoint.steps import retain, stage_folder, step_folder
from espalier.storage.contract import Storage

OLD, NEW = step_folder("heal", 500), step_folder("heal", 1000)
STAGE = stage_folder("heal")
SEEDS = {OLD: 1, NEW: 2}


def save(storage: Storage, folder: str, *, num_ranks: int = 2, attempt: int = 1) -> None:
    ranks = cut(make_tensors(SEEDS[folder]), num_ranks=num_ranks)
    save_ranks(storage, folder, ranks=ranks, step=int(folder[-8:]), attempt=attempt)


def save_new(storage: Storage, *, num_ranks: int = 2) -> None:
    save(storage, NEW, num_ranks=num_ranks)
    retain(storage, STAGE, keep_latest=1)


def holds(storage: Storage, folder: str) -> bool:
    reader = StateReader.open(storage, folder)
    return all(torch.equal(reader.tensor(*key), one) for key, one in make_tensors(SEEDS[folder]).items())
