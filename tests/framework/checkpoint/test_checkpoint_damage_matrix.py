"""Every damage to every file is told, with the file's name, and an older checkpoint takes over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from checkpoint_cases import cut, make_tensors, save_ranks
from checkpoint_damages import ALONE, duplicate, flip, replace, swap, write_newer

from espalier.checkpoint.manifest import DamagedCheckpoint
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.steps import Latest, latest, retain, stage_folder, step_folder
from espalier.config.faults import RefusedInput
from espalier.storage.local import LocalStorage

STAGE = stage_folder("heal")
OLD, NEW = step_folder("heal", 500), step_folder("heal", 1000)
STEPS = {OLD: 500, NEW: 1000}
MANIFEST = "manifest.json"


@pytest.fixture(params=[True, False], ids=["with_an_older_one", "alone"])
def storage(tmp_path: Path, request: pytest.FixtureRequest) -> LocalStorage:
    """Two checkpoints whose files have the same names and sizes, or the newer one alone."""
    storage = LocalStorage(tmp_path)
    for folder in (OLD, NEW) if request.param else (NEW,):
        ranks = cut(make_tensors(STEPS[folder]), num_ranks=3)
        save_ranks(storage, folder, ranks=ranks, step=STEPS[folder], max_file_bytes=150)
    return storage


def _files(storage: LocalStorage, folder: str = NEW) -> list[Path]:
    files = sorted((storage.root / folder).iterdir())
    assert len(files) > 5
    assert files[-1].name == MANIFEST
    return files


def _check_is_told(storage: LocalStorage, *named: str) -> None:
    """The newer checkpoint is refused by name, and the older one, if any, is found and is as it was."""
    with pytest.raises(DamagedCheckpoint) as caught:
        StateReader.open(storage, NEW)
    assert [name for name in named if f"`{name}`" not in str(caught.value)] == []
    found = latest(storage, STAGE)
    assert [one.folder for one in found.damaged] == [NEW]
    assert all(f"`{name}`" in str(found.damaged[0]) for name in named)
    _check_older_is_found(storage, found)


def _check_older_is_found(storage: LocalStorage, found: Latest) -> None:
    assert found.folder == (OLD if storage.exists(OLD) else None)
    if found.folder:
        reader = StateReader.open(storage, OLD)
        assert all(torch.equal(reader.tensor(*key), one) for key, one in make_tensors(STEPS[OLD]).items())


def _each(storage: LocalStorage, damage: Callable[[Path], None]) -> Iterator[Path]:
    """Every file in turn, damaged; what was there before is put back."""
    whole = {file: file.read_bytes() for file in _files(storage)}
    for file in whole:
        damage(file)
        assert {one: one.read_bytes() for one in _files_left(storage)} != whole
        yield file
        for one, data in whole.items():
            one.write_bytes(data)
    assert latest(storage, STAGE) == Latest(NEW)


def _files_left(storage: LocalStorage) -> list[Path]:
    return sorted((storage.root / NEW).iterdir())


@pytest.mark.parametrize("kind", sorted(ALONE))
@pytest.mark.parametrize("place", [0.0, 0.5, 0.999])
def test_every_file_damaged(storage: LocalStorage, kind: str, place: float) -> None:
    for file in _each(storage, lambda file: ALONE[kind](file, place, file)):
        if kind == "delete" and file.name == MANIFEST:  # nothing tells it from a save that never ended
            assert latest(storage, STAGE).damaged == ()
            _check_older_is_found(storage, latest(storage, STAGE))
            with pytest.raises(DamagedCheckpoint, match=f"`{MANIFEST}`"):
                StateReader.open(storage, NEW)
        else:
            _check_is_told(storage, file.name)


def test_every_two_files_swapped(storage: LocalStorage) -> None:
    for one, other in pairwise([*_files(storage), _files(storage)[0]]):
        swap(one, 0.0, other)
        named = [MANIFEST] if MANIFEST in (one.name, other.name) else [one.name, other.name]
        _check_is_told(storage, *named)
        swap(one, 0.0, other)
    assert latest(storage, STAGE) == Latest(NEW)


def test_every_file_replaced_by_another_rank_s(storage: LocalStorage) -> None:
    for file in _each(storage, lambda file: replace(file, 0.0, _files(storage)[file == _files(storage)[0]])):
        _check_is_told(storage, file.name)


def test_every_file_replaced_by_its_like_of_another_checkpoint(storage: LocalStorage, tmp_path: Path) -> None:
    elsewhere = LocalStorage(tmp_path / "elsewhere")
    save_ranks(elsewhere, NEW, ranks=cut(make_tensors(7), num_ranks=3), step=1000, max_file_bytes=150)
    for file in _each(storage, lambda file: replace(file, 0.0, elsewhere.root / NEW / file.name)):
        data_files = [one.name for one in _files(storage)[:-1]]
        _check_is_told(storage, *(data_files if file.name == MANIFEST else [file.name]))


def test_the_manifest_of_another_step_is_told(storage: LocalStorage, tmp_path: Path) -> None:
    elsewhere = LocalStorage(tmp_path / "elsewhere")
    save_ranks(elsewhere, NEW, ranks=cut(make_tensors(STEPS[NEW]), num_ranks=3), step=500, max_file_bytes=150)
    replace(storage.root / NEW / MANIFEST, 0.0, elsewhere.root / NEW / MANIFEST)
    found = latest(storage, STAGE)
    assert [f"`{MANIFEST}` is of step 500" in str(one) for one in found.damaged] == [True]
    _check_older_is_found(storage, found)


def test_a_duplicate_is_not_read(storage: LocalStorage) -> None:
    for file in _files(storage):
        duplicate(file, 0.0, file)
        assert latest(storage, STAGE) == Latest(NEW)
        reader = StateReader.open(storage, NEW)
        assert all(torch.equal(reader.tensor(*key), one) for key, one in make_tensors(STEPS[NEW]).items())


def test_a_newer_manifest_is_not_passed_over(storage: LocalStorage) -> None:
    write_newer(storage.root / NEW / MANIFEST)
    for read in (lambda: latest(storage, STAGE), lambda: StateReader.open(storage, NEW)):
        with pytest.raises(RefusedInput, match=f"{NEW}/{MANIFEST}: schema_version.*upgrade"):
            read()


def test_going_back_behind_damage_that_only_hashing_shows(storage: LocalStorage) -> None:
    """The damaged one looks whole to who does not hash it, and must not push out what was saved after it."""
    flip(_files(storage)[0], 0.999, _files(storage)[0])
    again = step_folder("heal", 750)
    save_ranks(storage, again, ranks=cut(make_tensors(750), num_ranks=2), step=750, attempt=2)
    retain(storage, STAGE, keep_latest=1)
    assert [f"{STAGE}/{name}" for name in storage.list(STAGE)] == [again, NEW]
    assert latest(storage, STAGE).folder == again
