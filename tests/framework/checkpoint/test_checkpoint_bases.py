"""States that hold what was trained and stand on others for the rest: read, verified and kept as whole ones are."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import pytest
import torch
from checkpoint_cases import SHAPES, SLOTS, make_origin, make_tensors, save_ranks

from espalier.checkpoint.bases import standing_on
from espalier.checkpoint.fragments import Fragment
from espalier.checkpoint.manifest import Base, DamagedCheckpoint, Manifest
from espalier.checkpoint.manifest_file import MANIFEST, discard, load_manifest
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.steps import latest, replaced, stage_folder, step_folder
from espalier.checkpoint.write import begin, commit, write_fragments
from espalier.storage.local import LocalStorage
from espalier.storage.objects import open_storage

WHOLE, FIRST, SECOND = step_folder("parent", 5), step_folder("first", 5), step_folder("second", 5)
NAMES = tuple(SHAPES)


def whole(storage: LocalStorage, *, seed: int = 1, attempt: int = 1, key: str = "old") -> None:
    ranks = [[Fragment(slot, name, 0, tensor.flatten()) for (slot, name), tensor in make_tensors(seed).items()]]
    save_ranks(storage, WHOLE, ranks=ranks, step=5, attempt=attempt, key=key)


def part(
    storage: LocalStorage, folder: str, names: Collection[str], *, on: str, seed: int, bases: tuple[Base, ...] = ()
) -> Manifest:
    """A state that holds `names` with moments, made from the state `on`."""
    tensors = make_tensors(seed)
    held = [Fragment(slot, name, 0, tensors[slot, name].flatten()) for slot in SLOTS for name in names]
    begin(storage, folder, attempt=1)
    written = write_fragments(storage, folder, fragments=held, rank=0, attempt=1)
    bases = bases or StateReader.open(storage, on).bases_without(names)
    origin = make_origin(step=5, attempt=1, num_ranks=1)
    return commit(storage, folder, origin=origin, shapes=SHAPES, state={"key": "old"}, ranks=[written], bases=bases)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    """`first` trains one of three parameters of `parent`, `second` another one of `first`."""
    storage = LocalStorage(tmp_path / "run")
    whole(storage)
    part(storage, FIRST, NAMES[:1], on=WHOLE, seed=2)
    part(storage, SECOND, NAMES[1:2], on=FIRST, seed=3)
    return storage


def values(reader: StateReader) -> list[torch.Tensor]:
    return [reader.tensor("parameter", name) for name in NAMES]


def expected() -> list[torch.Tensor]:
    return [make_tensors(seed)["parameter", name] for seed, name in zip((2, 3, 1), NAMES, strict=True)]


def test_every_parameter_is_read_from_where_it_is(storage: LocalStorage) -> None:
    reader = StateReader.open(storage, SECOND)
    assert set(reader.names("parameter")) == set(NAMES) and reader.shapes == SHAPES
    assert all(map(torch.equal, values(reader), expected()))
    assert torch.equal(reader.read("parameter", NAMES[0], offset=3, length=4), expected()[0].flatten()[3:7])
    assert reader.dtype("parameter", NAMES[2]) == torch.float32


def test_moments_are_those_of_what_was_trained_last(storage: LocalStorage) -> None:
    reader = StateReader.open(storage, SECOND)
    assert reader.names("exp_avg") == NAMES[1:2] and reader.has_moments(NAMES[1:2])
    assert not reader.has_moments(NAMES[:2])
    with pytest.raises(AssertionError):
        reader.tensor("exp_avg", NAMES[0])


def test_bases_are_listed_flat_and_only_where_they_are_needed(storage: LocalStorage) -> None:
    assert [base.folder for base in load_manifest(storage, SECOND).bases] == [FIRST, WHOLE]
    again = StateReader.open(storage, SECOND).bases_without(NAMES[:2])
    assert [base.folder for base in again] == [WHOLE]
    assert StateReader.open(storage, SECOND).bases_without(NAMES) == ()


def test_only_what_is_held_is_written(storage: LocalStorage) -> None:
    manifest = load_manifest(storage, SECOND)
    assert all(records.keys() == set(NAMES[1:2]) for records in manifest.tensors.values())
    assert sum(one.num_bytes for one in manifest.files.values()) < 3 * 4 * 11 + 300
    assert manifest.schema_version == 2 and load_manifest(storage, WHOLE).schema_version == 1


def test_a_run_can_be_moved(storage: LocalStorage, tmp_path: Path) -> None:
    shutil.move(storage.root, tmp_path / "elsewhere")
    assert all(map(torch.equal, values(StateReader.open(LocalStorage(tmp_path / "elsewhere"), SECOND)), expected()))


def test_a_store_elsewhere_holds_them_too(memory: str) -> None:
    store = open_storage(memory)
    whole(store)
    part(store, FIRST, NAMES[:1], on=WHOLE, seed=2)
    part(store, SECOND, NAMES[1:2], on=FIRST, seed=3)
    assert all(map(torch.equal, values(StateReader.open(store, SECOND)), expected()))


def test_a_base_that_was_made_anew_is_no_base(storage: LocalStorage) -> None:
    whole(storage, attempt=2)
    with pytest.raises(DamagedCheckpoint, match=f"stands on `{WHOLE}`, which has been made anew"):
        StateReader.open(storage, SECOND, verify=False)


def test_a_base_that_is_gone_is_named(storage: LocalStorage) -> None:
    discard(storage, FIRST)
    with pytest.raises(DamagedCheckpoint, match=f"stands on `{FIRST}`: it has no `{MANIFEST}`"):
        StateReader.open(storage, SECOND, verify=False)
    assert latest(storage, stage_folder("second")).folder is None


def test_a_damaged_file_of_a_base_is_damage(storage: LocalStorage) -> None:
    file = next((storage.root / WHOLE).glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    StateReader.open(storage, SECOND, verify=False)
    with pytest.raises(DamagedCheckpoint, match=f"stands on `{WHOLE}`: `{file.name}` is not as it was written"):
        StateReader.open(storage, SECOND)


def test_nothing_is_committed_that_no_base_completes(storage: LocalStorage) -> None:
    first = load_manifest(storage, SECOND).bases[:1]
    with pytest.raises(DamagedCheckpoint, match="`scale` is in none of the states"):
        part(storage, step_folder("third", 5), NAMES[1:2], on=FIRST, seed=4, bases=first)
    missing = (Base(folder=step_folder("gone", 5), xxh3="0" * 32),)
    with pytest.raises(DamagedCheckpoint, match="stands on `stages/gone"):
        part(storage, step_folder("third", 5), NAMES[1:2], on=FIRST, seed=4, bases=missing)
    assert MANIFEST not in storage.list(step_folder("third", 5))


def test_a_part_without_bases_is_refused(storage: LocalStorage) -> None:
    begin(storage, step_folder("third", 5), attempt=1)
    values = make_tensors(4)["parameter", NAMES[0]].flatten()
    written = write_fragments(
        storage,
        step_folder("third", 5),
        fragments=[Fragment("parameter", NAMES[0], 0, values)],
        rank=0,
        attempt=1,
    )
    origin = make_origin(step=5, attempt=1, num_ranks=1)
    with pytest.raises(DamagedCheckpoint, match="has a shape but no values"):
        commit(storage, step_folder("third", 5), origin=origin, shapes=SHAPES, state={}, ranks=[written])


def test_new_parameters_stand_beside_a_base(storage: LocalStorage) -> None:
    folder, shapes = step_folder("third", 5), SHAPES | {"adapter": (2, 3)}
    begin(storage, folder, attempt=1)
    added = [Fragment("parameter", "adapter", 0, torch.arange(6.0))]
    written = write_fragments(storage, folder, fragments=added, rank=0, attempt=1)
    origin, bases = make_origin(step=5, attempt=1, num_ranks=1), StateReader.open(storage, SECOND).bases_without(())
    commit(storage, folder, origin=origin, shapes=shapes, state={}, ranks=[written], bases=bases)
    reader = StateReader.open(storage, folder)
    assert torch.equal(reader.tensor("parameter", "adapter"), torch.arange(6.0).view(2, 3))
    assert all(map(torch.equal, values(reader), expected()))


def test_what_others_stand_on_is_not_replaced_before_they_are(storage: LocalStorage) -> None:
    assert standing_on(storage) == {WHOLE, FIRST}
    new = step_folder("parent", 7)
    ranks = [[Fragment(slot, name, 0, tensor.flatten()) for (slot, name), tensor in make_tensors(9).items()]]
    save_ranks(storage, new, ranks=ranks, step=7, attempt=2, key="new")
    assert replaced(storage, stage_folder("parent"), by=new) == ()
    discard(storage, SECOND)
    assert replaced(storage, stage_folder("parent"), by=new) == (), "the first still stands on it"
    discard(storage, FIRST)
    assert replaced(storage, stage_folder("parent"), by=new) == (WHOLE,)
