"""Whatever the power takes with it, the old checkpoint or the new one is there, whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import torch
from checkpoint_cases import Stopped, cut, make_tensors, save_ranks
from checkpoint_power import PowerCutStorage

from espalier.checkpoint.manifest_file import load_manifest
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.steps import latest, retain, stage_folder, step_folder
from espalier.storage.local import LocalStorage

OLD, NEW, NEXT = (step_folder("heal", step) for step in (500, 1000, 1500))
STAGE = stage_folder("heal")
STEPS = {OLD: 500, NEW: 1000, NEXT: 1500}


def _save(storage: LocalStorage, folder: str, *, attempt: int) -> None:
    ranks = cut(make_tensors(STEPS[folder] + attempt), num_ranks=2)
    save_ranks(storage, folder, ranks=ranks, step=STEPS[folder], attempt=attempt, max_file_bytes=150)


def _save_and_retain(storage: LocalStorage, folder: str, *, attempt: int) -> None:
    _save(storage, folder, attempt=attempt)
    retain(storage, STAGE, keep_latest=1)


def _with_old(root: Path, *, again: bool) -> PowerCutStorage:
    """An old checkpoint; `again`: beside one of the step that is going to be saved, from an earlier attempt. That one
    stays until the new one has taken its place."""
    storage = PowerCutStorage(root)
    for folder in (OLD, NEW) if again else (OLD,):
        _save(storage, folder, attempt=1)
    return storage


def _holds(storage: LocalStorage, folder: str) -> bool:
    reader = StateReader.open(storage, folder)
    tensors = make_tensors(STEPS[folder] + reader.manifest.origin.attempt)
    return all(torch.equal(reader.tensor(*key), one) for key, one in tensors.items())


def _check_survivors(left: LocalStorage, *, allowed: tuple[str, ...]) -> tuple[str, int]:
    """The checkpoint that is left, and the attempt that made it."""
    found = latest(left, STAGE)
    assert found.folder in allowed
    assert found.damaged == ()
    assert _holds(left, found.folder)
    attempt = load_manifest(left, found.folder).origin.attempt
    _save_and_retain(left, NEXT, attempt=3)
    assert _holds(left, NEXT)
    assert [f"{STAGE}/{name}" for name in left.list(STAGE)] == [NEXT]
    assert set(left.list(NEXT)) == {*load_manifest(left, NEXT).files, "manifest.json"}
    return found.folder, attempt


def _num_calls(root: Path, *, again: bool) -> tuple[int, int]:
    """Of the ground to stand on, and with the save that is going to be cut."""
    storage = _with_old(root, again=again)
    before = storage.num_calls
    _save_and_retain(storage, NEW, attempt=2)
    return before, storage.num_calls


def _every_cut(tmp_path: Path, *, again: bool) -> Iterator[tuple[int, str]]:
    first, end = _num_calls(tmp_path / "counted", again=again)
    assert end - first > 10
    return ((at, how) for at in range(first, end) for how in ("before", "during", "after"))


def _cut_save(root: Path, *, at: int, how: str, again: bool) -> PowerCutStorage:
    storage = _with_old(root, again=again)
    storage.cut_at, storage.how = at, how
    with pytest.raises(Stopped):
        _save_and_retain(storage, NEW, attempt=2)
    return storage


@pytest.mark.parametrize("again", [False, True])
def test_a_cut_at_every_call(tmp_path: Path, again: bool) -> None:
    random = Random(0)
    seen = set()
    for place, (at, how) in enumerate(_every_cut(tmp_path, again=again)):
        storage = _cut_save(tmp_path / f"{place}", at=at, how=how, again=again)
        seen.add(
            _check_survivors(storage.leave(tmp_path / f"{place}-left", random), allowed=(NEW,) if again else (OLD, NEW))
        )
    assert seen == ({(NEW, 1), (NEW, 2)} if again else {(OLD, 1), (NEW, 2)})


@pytest.mark.parametrize("again", [False, True])
def test_fifty_random_cuts(tmp_path: Path, again: bool) -> None:
    cuts = list(_every_cut(tmp_path, again=again))
    for seed in range(50):
        random = Random(seed)
        at, how = random.choice(cuts)
        storage = _cut_save(tmp_path / f"{seed}", at=at, how=how, again=again)
        _check_survivors(storage.leave(tmp_path / f"{seed}-left", random), allowed=(NEW,) if again else (OLD, NEW))


def test_a_cut_after_the_commit_leaves_the_new_one(tmp_path: Path) -> None:
    for seed in range(10):
        storage = _with_old(tmp_path / f"{seed}", again=False)
        _save_and_retain(storage, NEW, attempt=2)
        _check_survivors(storage.leave(tmp_path / f"{seed}-left", Random(seed)), allowed=(NEW,))


def test_what_a_killed_process_made_is_made_durable_by_the_next(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "stages" / "heal").mkdir(parents=True)  # and killed before its sync
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    LocalStorage(tmp_path).make_folder(OLD)
    assert {str(tmp_path), str(tmp_path / "stages"), str(tmp_path / STAGE)} <= set(synced)
