"""States whose values are in published files: read as if they held them, and never once those have changed."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from checkpoint_cases import SHAPES, make_origin, make_tensors
from safetensors.torch import save_file

from espalier.checkpoint.fragments import Fragment
from espalier.checkpoint.manifest import DamagedCheckpoint, Manifest, Published
from espalier.checkpoint.manifest_file import load_manifest
from espalier.checkpoint.published_files import refer_to
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.write import begin, commit, write_fragments
from espalier.config.faults import RefusedInput
from espalier.storage.local import LocalStorage

LOADED, TUNED = "stages/parent/step-00000000", "stages/heal/step-00000005"
NAMES = tuple(SHAPES)
VALUES = {name: tensor for (_, name), tensor in make_tensors(1, slots=["parameter"]).items()}


def write_model(folder: Path) -> Path:
    """Two files, other names than the run's, and one value in bfloat16."""
    folder.mkdir(parents=True)
    save_file({f"old.{NAMES[0]}": VALUES[NAMES[0]], "not.of.us": torch.zeros(3)}, folder / "one.safetensors")
    halved = VALUES[NAMES[1]].bfloat16()
    save_file({f"old.{NAMES[1]}": halved, f"old.{NAMES[2]}": VALUES[NAMES[2]]}, folder / "two.safetensors")
    return folder


def published(folder: Path) -> Published:
    files, dtypes = ("one.safetensors", *["two.safetensors"] * 2), ("float32", "bfloat16", "float32")
    places = zip(NAMES, files, dtypes, strict=True)
    return refer_to(folder, {name: (file, f"old.{name}", dtype) for name, file, dtype in places})


def save(storage: LocalStorage, folder: str, held: list[Fragment], **stands: object) -> Manifest:
    begin(storage, folder, attempt=1)
    written = write_fragments(storage, folder, fragments=held, rank=0, attempt=1)
    step = int(folder.rpartition("-")[2])
    origin = make_origin(step=step, attempt=1, num_ranks=1)
    return commit(storage, folder, origin=origin, shapes=SHAPES, state={}, ranks=[written], **stands)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def storage(tmp_path: Path, model: Path) -> LocalStorage:
    """A loaded state, and one that has trained one parameter of it."""
    storage = LocalStorage(tmp_path / "run")
    save(storage, LOADED, [], published=published(model))
    trained = [Fragment("parameter", NAMES[0], 0, 2 * VALUES[NAMES[0]].flatten())]
    save(storage, TUNED, trained, bases=StateReader.open(storage, LOADED).bases_without(NAMES[:1]))
    return storage


def test_values_are_those_published_whole_and_by_runs(storage: LocalStorage) -> None:
    reader = StateReader.open(storage, LOADED)
    assert reader.slots == ("parameter",) and set(reader.names("parameter")) == set(NAMES)
    assert reader.dtype("parameter", NAMES[1]) == torch.bfloat16
    for name, dtype in zip(NAMES, (torch.float32, torch.bfloat16, torch.float32), strict=True):
        wanted = VALUES[name].to(dtype)
        assert torch.equal(reader.tensor("parameter", name), wanted)
        for begin_at, end in itertools.combinations(range(wanted.numel() + 1), 2):
            run = reader.read("parameter", name, offset=begin_at, length=end - begin_at)
            assert torch.equal(run, wanted.flatten()[begin_at:end])


def test_a_state_of_published_values_holds_none_itself(storage: LocalStorage) -> None:
    assert [path.name for path in (storage.root / LOADED).iterdir()] == ["manifest.json"]
    assert load_manifest(storage, LOADED).schema_version == 2


def test_a_state_that_stands_on_it_reads_through_it(storage: LocalStorage) -> None:
    reader = StateReader.open(storage, TUNED)
    assert torch.equal(reader.tensor("parameter", NAMES[0]), 2 * VALUES[NAMES[0]])
    assert torch.equal(reader.tensor("parameter", NAMES[2]), VALUES[NAMES[2]])


@pytest.mark.parametrize("folder", [LOADED, TUNED])
def test_a_changed_file_is_told_by_hash_and_a_missing_one_always(
    storage: LocalStorage, model: Path, folder: str
) -> None:
    file = model / "two.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    StateReader.open(storage, folder, verify=False)
    with pytest.raises(DamagedCheckpoint, match=rf"{model}: `two.safetensors` is not as it was written; bring that"):
        StateReader.open(storage, folder)
    file.unlink()
    with pytest.raises(DamagedCheckpoint, match=rf"{model}: `two.safetensors` is missing; bring that model back"):
        StateReader.open(storage, folder, verify=False)


def test_a_model_that_was_moved_is_found_by_a_link(storage: LocalStorage, model: Path, tmp_path: Path) -> None:
    model.rename(tmp_path / "moved")
    with pytest.raises(DamagedCheckpoint, match=r"`one.safetensors` is missing"):
        StateReader.open(storage, LOADED)
    model.symlink_to(tmp_path / "moved")
    assert torch.equal(StateReader.open(storage, LOADED).tensor("parameter", NAMES[0]), VALUES[NAMES[0]])


def test_no_link_leads_out_of_the_published_folder(storage: LocalStorage, model: Path, tmp_path: Path) -> None:
    file = model / "two.safetensors"
    file.rename(tmp_path / "outside.safetensors")
    file.symlink_to(tmp_path / "outside.safetensors")
    with pytest.raises(DamagedCheckpoint, match="cannot be read"):
        StateReader.open(storage, LOADED, verify=False)


def test_a_tensor_of_other_form_is_seen_while_reading(storage: LocalStorage, model: Path) -> None:
    reader = StateReader.open(storage, LOADED, verify=False)
    save_file({f"old.{NAMES[0]}": VALUES[NAMES[0]].flatten()}, model / "one.safetensors")
    with pytest.raises(DamagedCheckpoint, match="has changed"):
        reader.tensor("parameter", NAMES[0])
    save_file({"another": VALUES[NAMES[0]]}, model / "one.safetensors")
    with pytest.raises(DamagedCheckpoint, match=f"old.{NAMES[0]}"):
        StateReader(storage, LOADED, manifest=load_manifest(storage, LOADED)).tensor("parameter", NAMES[0])


def test_what_no_file_holds_is_not_committed(storage: LocalStorage, model: Path) -> None:
    known = published(model)
    fewer = known.model_copy(update={"tensors": {name: known.tensors[name] for name in NAMES[:2]}})
    with pytest.raises(DamagedCheckpoint, match=f"`{NAMES[2]}` has a shape but no values"):
        save(storage, "stages/other/step-00000000", [], published=fewer)
    with pytest.raises((ValueError, RefusedInput), match="files"):
        Published(folder="/model", files={"../key.safetensors": known.files["one.safetensors"]}, tensors={})
