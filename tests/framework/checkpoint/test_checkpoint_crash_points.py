"""A save that is stopped at any of its calls leaves the old checkpoint or the new one, whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from checkpoint_cases import Stopped, StoppingStorage, cut, make_tensors, save_ranks

from espalier.checkpoint.manifest_file import load_manifest
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.steps import latest, retain, stage_folder, step_folder
from espalier.storage.contract import Bytes
from espalier.storage.local import LocalStorage

OLD, NEW = step_folder("heal", 500), step_folder("heal", 1000)
STAGE = stage_folder("heal")
SEEDS = {OLD: 1, NEW: 2}


def _save_new(storage: LocalStorage) -> None:
    save_ranks(storage, NEW, ranks=cut(make_tensors(SEEDS[NEW]), num_ranks=2), step=1000, max_file_bytes=150)
    retain(storage, STAGE, keep_latest=1)


def _holds(storage: LocalStorage, folder: str) -> bool:
    reader = StateReader.open(storage, folder)
    return all(torch.equal(reader.tensor(*key), one) for key, one in make_tensors(SEEDS[folder]).items())


def _num_calls(root: Path) -> int:
    storage = StoppingStorage(root)
    save_ranks(LocalStorage(root), OLD, ranks=cut(make_tensors(SEEDS[OLD]), num_ranks=3), step=500)
    _save_new(storage)
    return storage.num_calls


@pytest.mark.parametrize("how", ["before", "torn", "after"])
def test_every_crash_point(tmp_path: Path, how) -> None:
    num_calls = _num_calls(tmp_path / "counted")
    assert num_calls > 10
    seen = set()
    for stop_at in range(num_calls):
        root = tmp_path / f"{stop_at}"
        safe = LocalStorage(root)
        save_ranks(safe, OLD, ranks=cut(make_tensors(SEEDS[OLD]), num_ranks=3), step=500)
        with pytest.raises(Stopped):
            _save_new(StoppingStorage(root, stop_at=stop_at, how=how))
        found = latest(safe, STAGE)
        assert found.folder in (OLD, NEW)
        assert found.damaged == ()
        assert _holds(safe, found.folder)
        seen.add(found.folder)
        _save_new(safe)
        assert _holds(safe, NEW)
        assert safe.list(STAGE) == ("step-00001000",)
        assert set(safe.list(NEW)) == {*load_manifest(safe, NEW).files, "manifest.json"}
    assert seen == {OLD, NEW}


def test_the_manifest_is_renamed_after_everything_is_durable(tmp_path: Path) -> None:
    order: list[str] = []

    class Recording(LocalStorage):
        def write_bytes(self, path: str, *parts: Bytes) -> None:
            data = b"".join(parts)
            order.append(f"write {re.sub('[.][0-9a-f]{8}[.]', '.', path.rsplit('/')[-1])}")
            super().write_bytes(path, data)

        def rename(self, old: str, new: str, *, replace: bool = True) -> None:
            order.append(f"rename {new.rsplit('/')[-1]}")
            super().rename(old, new, replace=replace)

        def sync_folder(self, path: str) -> None:
            order.append("sync")
            super().sync_folder(path)

    save_ranks(Recording(tmp_path), NEW, ranks=cut(make_tensors(2), num_ranks=2))
    assert order == [
        "write attempt-0001-rank-00000-0000.safetensors",
        "sync",
        "write attempt-0001-rank-00001-0000.safetensors",
        "sync",
        "write manifest.json.unfinished",
        "rename manifest.json",
        "sync",
    ]
