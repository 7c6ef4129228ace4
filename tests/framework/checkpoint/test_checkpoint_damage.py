"""Whatever happens to a committed file is seen before a value is used."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from checkpoint_cases import cut, make_tensors, save_ranks

from espalier.checkpoint.manifest import DamagedCheckpoint
from espalier.checkpoint.manifest_file import _digest, load_manifest
from espalier.checkpoint.read import StateReader
from espalier.storage.local import LocalStorage

FOLDER = "stages/heal/step-00000500"


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path)
    save_ranks(storage, FOLDER, ranks=cut(make_tensors(1), num_ranks=2))
    return storage


def _data_files(storage: LocalStorage) -> list[Path]:
    return sorted((storage.root / FOLDER).glob("*.safetensors"))


def _flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_a_flipped_bit_anywhere_in_the_manifest(storage: LocalStorage) -> None:
    file = storage.root / FOLDER / "manifest.json"
    whole = file.read_bytes()
    for position in range(0, len(whole), 7):
        _flip(file, position)
        with pytest.raises(DamagedCheckpoint):
            load_manifest(storage, FOLDER)
        file.write_bytes(whole)
    load_manifest(storage, FOLDER)


@pytest.mark.parametrize("verify", [True, False])
def test_sizes_are_checked_even_without_hashing(storage: LocalStorage, verify: bool) -> None:
    first, second = _data_files(storage)
    first.write_bytes(first.read_bytes()[:-4])
    second.write_bytes(second.read_bytes() + b"\0")
    with pytest.raises(DamagedCheckpoint) as caught:
        StateReader.open(storage, FOLDER, verify=verify)
    assert [reason.split("`")[1] for reason in caught.value.reasons] == [first.name, second.name]


def test_a_file_of_other_content_is_seen_while_reading(storage: LocalStorage) -> None:
    reader = StateReader.open(storage, FOLDER, verify=False)
    file = _data_files(storage)[0]
    file.write_bytes(b"\0" * file.stat().st_size)
    with pytest.raises(DamagedCheckpoint, match=file.name):
        reader.tensor("parameter", "body.weight")


@pytest.mark.parametrize("change", [{"dtype": "float64"}, {"runs": [[0, 35, 0]]}])
def test_tensors_that_are_not_what_the_manifest_says_are_seen_while_reading(storage, change: dict) -> None:
    _rewrite(storage, lambda body: body["tensors"]["exp_avg"]["body.weight"].update(change))
    reader = StateReader.open(storage, FOLDER)
    with pytest.raises(DamagedCheckpoint, match="not what the manifest says"):
        reader.tensor("exp_avg", "body.weight")


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["shapes"].update({"body.bias": [13]}),
        lambda body: body["shapes"].update({"body.bias": [-11]}),
        lambda body: body["tensors"]["exp_avg"]["scale"].update(runs=[[0, 1, 99]]),
        lambda body: body["tensors"]["exp_avg"]["scale"].update(runs=[[0, 1, 0], [1, 0, 0]]),
        lambda body: body["tensors"]["exp_avg"]["scale"].update(dtype="Tensor"),
        lambda body: body["tensors"].update({"momentum": {}}),
        lambda body: body["files"].update({"../../key": {"num_bytes": 0, "xxh3": "0" * 32}}),
        lambda body: body["origin"].update(step="500"),
        lambda body: body.pop("state"),
    ],
)
def test_a_manifest_that_does_not_fit_together_is_refused(storage: LocalStorage, change) -> None:
    _rewrite(storage, change)
    with pytest.raises(DamagedCheckpoint):
        load_manifest(storage, FOLDER)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"manifest": 3, "xxh3": "0"}', "[" * 100_000, "\0"])
def test_a_file_that_is_no_manifest(storage: LocalStorage, text: str) -> None:
    (storage.root / FOLDER / "manifest.json").write_text(text)
    with pytest.raises(DamagedCheckpoint, match=r"`manifest.json` is n"):
        load_manifest(storage, FOLDER)


def test_the_error_crosses_processes() -> None:
    error = DamagedCheckpoint("stages/heal/step-00000500", ["`a` is missing", "`b` is missing"])
    again = pickle.loads(pickle.dumps(error))
    assert (again.folder, again.reasons, str(again)) == (error.folder, error.reasons, str(error))


def _rewrite(storage: LocalStorage, change) -> None:
    """Change the manifest and hash it again, as somebody who means it would."""
    file = storage.root / FOLDER / "manifest.json"
    body = json.loads(file.read_text())["manifest"]
    change(body)
    file.write_text(json.dumps({"manifest": body, "xxh3": _digest(body)}))
