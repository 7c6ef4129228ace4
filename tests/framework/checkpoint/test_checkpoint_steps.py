"""Which checkpoint is the newest, and which are kept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from checkpoint_cases import Stopped, StoppingStorage, cut, make_tensors, save_ranks

from espalier.checkpoint.steps import (
    Latest,
    keys_of,
    latest,
    newest_step,
    replaced,
    retain,
    stage_folder,
    step_folder,
)
from espalier.checkpoint.write import begin
from espalier.storage.local import LocalStorage

STAGE = stage_folder("heal")


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path)
    for step in (3, 5, 11, 7):
        save_ranks(storage, step_folder("heal", step), ranks=cut(make_tensors(step), num_ranks=1), step=step)
    return storage


def _break(storage: LocalStorage, step: int, *, keep_size: bool = False) -> None:
    file = next((storage.root / step_folder("heal", step)).glob("*.safetensors"))
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if keep_size else data[:-1])


def _steps(storage: LocalStorage) -> list[int]:
    return [int(name.removeprefix("step-")) for name in storage.list(STAGE)]


def test_folders_sort_as_their_steps() -> None:
    assert step_folder("heal", 500) == "stages/heal/step-00000500"
    steps = [2, 10, 99_999_999]
    assert sorted(step_folder("heal", step) for step in steps) == [step_folder("heal", step) for step in steps]


def test_the_newest_is_by_step_and_not_by_time(storage: LocalStorage) -> None:
    os.utime(storage.root / step_folder("heal", 11), (0, 0))
    assert latest(storage, STAGE) == Latest(step_folder("heal", 11))


def test_a_stage_without_checkpoints_has_none(storage: LocalStorage) -> None:
    assert latest(storage, stage_folder("other")) == Latest(None)


def test_those_before_a_first_step_are_passed_over_without_a_word(storage: LocalStorage) -> None:
    _break(storage, 11)
    assert latest(storage, STAGE, first_step=7).folder == step_folder("heal", 7)
    found = latest(storage, STAGE, first_step=8)
    assert found.folder is None and len(found.damaged) == 1


def test_damaged_ones_are_passed_over_and_reported(storage: LocalStorage) -> None:
    _break(storage, 11)
    _break(storage, 7, keep_size=True)
    found = latest(storage, STAGE)
    assert found.folder == step_folder("heal", 5)
    assert [error.folder for error in found.damaged] == [step_folder("heal", 11), step_folder("heal", 7)]
    assert latest(storage, STAGE, verify=False).folder == step_folder("heal", 7)


def test_a_save_that_never_ended_is_no_checkpoint(storage: LocalStorage) -> None:
    begin(storage, step_folder("heal", 13), attempt=1)
    assert latest(storage, STAGE) == Latest(step_folder("heal", 11))


def test_a_checkpoint_under_the_name_of_another_step_is_damaged(storage: LocalStorage) -> None:
    shutil.copytree(storage.root / step_folder("heal", 3), storage.root / step_folder("heal", 17))
    found = latest(storage, STAGE)
    assert found.folder == step_folder("heal", 11)
    assert "step 3" in str(found.damaged[0])


def test_the_newest_are_kept(storage: LocalStorage) -> None:
    assert retain(storage, STAGE, keep_latest=2) == (step_folder("heal", 5), step_folder("heal", 3))
    assert _steps(storage) == [7, 11]


def test_what_is_asked_for_is_kept_beside_them(storage: LocalStorage) -> None:
    retain(storage, STAGE, keep_latest=1, keep=[step_folder("heal", 3)])
    assert _steps(storage) == [3, 11]


def test_the_last_usable_one_is_never_removed(storage: LocalStorage) -> None:
    for step in (11, 7, 5):
        _break(storage, step)
    retain(storage, STAGE, keep_latest=1)
    assert _steps(storage) == [3, 5, 7, 11]  # the damaged ones stay too, until a newer one can be used
    assert latest(storage, STAGE).folder == step_folder("heal", 3)


def test_keeping_none_is_refused(storage: LocalStorage) -> None:
    with pytest.raises(AssertionError):
        retain(storage, STAGE, keep_latest=0)


def test_left_overs_older_than_a_usable_one_are_removed(storage: LocalStorage) -> None:
    begin(storage, step_folder("heal", 6), attempt=1)
    _break(storage, 7)
    retain(storage, STAGE, keep_latest=2)
    assert _steps(storage) == [5, 11]


def test_a_removal_stopped_half_way_leaves_no_checkpoint(storage: LocalStorage) -> None:
    stopping = StoppingStorage(storage.root, stop_at=1)  # the manifest is gone, the tensors are not
    with pytest.raises(Stopped):
        retain(stopping, STAGE, keep_latest=3)
    assert (storage.root / step_folder("heal", 3)).is_dir()
    assert list((storage.root / step_folder("heal", 3)).glob("*.safetensors"))
    assert not (storage.root / step_folder("heal", 3) / "manifest.json").exists()


def test_the_first_name_of_a_manifest_does_not_stay(storage: LocalStorage) -> None:
    """Its writer was killed between giving it the second one and taking this one away."""
    kept, unfinished = step_folder("heal", 11), "manifest.json.0badcafe.unfinished"
    os.link(storage.root / kept / "manifest.json", storage.root / kept / unfinished)
    assert latest(storage, STAGE) == Latest(kept)
    retain(storage, STAGE, keep_latest=1)
    assert unfinished not in storage.list(kept)
    assert latest(storage, STAGE) == Latest(kept)


@pytest.fixture
def two_keys(tmp_path: Path) -> LocalStorage:
    """Steps 3, 7 and 11 of an earlier attempt under `old`, and 5 and 7 of a later one under `new`."""
    storage = LocalStorage(tmp_path)
    for attempt, key, steps in ((1, "old", (3, 7, 11)), (2, "new", (5, 7))):
        for step in steps:
            ranks = cut(make_tensors(step), num_ranks=1)
            save_ranks(storage, step_folder("heal", step), ranks=ranks, step=step, attempt=attempt, key=key)
    return storage


def test_a_stage_goes_on_from_its_own_key(two_keys: LocalStorage) -> None:
    assert latest(two_keys, STAGE, key="new").folder == step_folder("heal", 7)
    assert newest_step(two_keys, STAGE, key="new") == 7 and newest_step(two_keys, STAGE) == 11
    assert latest(two_keys, STAGE, key="other") == Latest(None)
    assert keys_of(two_keys, STAGE) == {"old", "new"}


def test_checkpoints_of_another_key_stay_and_take_no_place(two_keys: LocalStorage) -> None:
    assert retain(two_keys, STAGE, keep_latest=1, key="new") == (step_folder("heal", 5),)
    assert _steps(two_keys) == [3, 7, 11]


def test_what_was_replaced_is_of_another_key_and_an_earlier_attempt(two_keys: LocalStorage) -> None:
    assert replaced(two_keys, STAGE, by=step_folder("heal", 7)) == (step_folder("heal", 11), step_folder("heal", 3))
    assert replaced(two_keys, STAGE, by=step_folder("heal", 11)) == ()


def test_the_files_of_a_replaced_checkpoint_go_even_when_its_writer_was_killed(two_keys: LocalStorage) -> None:
    folder = step_folder("heal", 7)
    (two_keys.root / folder / "attempt-0001-rank-00000-0000.safetensors").write_bytes(b"of before")
    retain(two_keys, STAGE, keep_latest=2, key="new")
    assert two_keys.list(folder) == ("attempt-0002-rank-00000-0000.safetensors", "manifest.json")
