"""Saves on a disk that takes no more: what stays, what is taken away, what may be borne."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from espalier.checkpoint.fragments import Fragment
from espalier.checkpoint.steps import step_folder
from espalier.distributed.world import World
from espalier.saving import saver
from espalier.saving import states as state
from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import Control
from espalier.stages.run_folder import RunFolder
from espalier.storage.contract import Bytes
from espalier.storage.local import LocalStorage


class FullAt(LocalStorage):
    """Takes the first part of a file of one step, and no more."""

    def __init__(self, root: Path, step: int) -> None:
        super().__init__(root)
        self._name = f"step-{step:08d}/"

    def write_bytes(self, path: str, *parts: Bytes) -> None:
        if self._name in path:
            super().write_bytes(path, *parts[:1])
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write_bytes(path, *parts)


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def opened(tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A saver of stage `heal` every two steps, one checkpoint kept, a failure borne; the disk is full at step 6."""
    monkeypatch.setattr(state, "layout", lambda model: {"weight": SimpleNamespace(shape=(8,))})
    checkpoint = SimpleNamespace(every=2, keep_latest=1, in_background=True, on_failure="go_on")
    context = SimpleNamespace(
        config=SimpleNamespace(name="heal", zero_level="none", checkpoint=checkpoint),
        world=World(0, 1, torch.device("cpu")),
        control=Control(),
        times=SimpleNamespace(record=lambda *arguments, **named: None),
        needed_states=frozenset(),
        storage=FullAt(tmp_path, 6),
        attempt=1,
        announce=notes.append,
        folder=RunFolder(tmp_path),
        key="k",
    )
    return saver.Saver(context, state.Lineage({}, "t", None), step_folder("heal", 0))


def save(opened: saver.Saver, step: int, *, best: int | None = None) -> None:
    fragments = lambda: [Fragment("parameter", "weight", 0, torch.arange(8.0))]  # noqa: E731
    folder = None if best is None else step_folder("heal", best)
    opened.after_step(step, fragments, state={}, last=False, best=folder)
    opened.finish()


def steps(root: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in root.glob("stages/heal/step-*"))


def test_files_of_a_failed_save_are_removed(opened, tmp_path: Path, notes: list[str]) -> None:
    for step in (4, 6):
        save(opened, step)
    assert "step 6 could not be written" in notes[0] and "going on" in notes[0]
    assert steps(tmp_path) == [4]
    save(opened, 8)
    assert steps(tmp_path) == [8]


def test_a_failed_save_of_the_best_epoch_stops_the_stage(opened, tmp_path: Path) -> None:
    save(opened, 3, best=3)
    save(opened, 4, best=3)
    with pytest.raises(StageFailed, match="step 6 could not be written") as failed:
        save(opened, 6, best=6)
    assert failed.value.cause == "storage"
    assert steps(tmp_path) == [3, 4]


def test_many_workers_agree_about_requests_to_stop_only_at_some_steps(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(World, "sum_flags", lambda world, *flags: looked.append(step) or (0, 0, 0, 0))
    monkeypatch.setattr(opened, "_begin", lambda *given, **named: None)
    opened.context.config.checkpoint.every = 7
    for size in (128, 512):
        opened.context.world = World(0, size, torch.device("cpu"))
        for step in range(1, 13):
            opened.after_step(step, list, state={}, last=step == 11)
    assert looked == [*range(1, 13), 4, 7, 8, 11, 12]
