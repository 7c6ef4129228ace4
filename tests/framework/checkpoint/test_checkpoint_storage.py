"""No path leaves the root, and what is written is durable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from checkpoint_cases import calls_of

from espalier.config.faults import RefusedInput
from espalier.storage.local import LocalStorage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("s")
    (tmp_path / "root" / "out").symlink_to(tmp_path)
    return LocalStorage(tmp_path / "root")


@pytest.mark.parametrize("path", ["../secret", "a/../../secret", "out/secret", "/etc/hostname", "a\0b"])
def test_a_path_that_leaves_the_root_is_refused(storage: LocalStorage, path: str) -> None:
    for call in calls_of(storage, path):
        with pytest.raises(RefusedInput, match="stays inside"):
            call()
    assert (storage.root.parent / "secret").read_text() == "s"


def test_a_file_larger_than_asked_for_is_refused(storage: LocalStorage) -> None:
    storage.write_bytes("a", b"x" * 11)
    assert storage.read_bytes("a", max_bytes=11) == b"x" * 11
    with pytest.raises(ValueError, match="larger than 10"):
        storage.read_bytes("a", max_bytes=10)


def test_the_hash_is_of_the_whole_content(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_bytes("a", bytes(range(101)))
    whole = storage.xxh3("a")
    monkeypatch.setattr("espalier.storage.local._CHUNK_BYTES", 7)
    assert storage.xxh3("a") == whole
    storage.write_bytes("a", bytes(range(100)))
    assert storage.xxh3("a") != whole


def test_the_root_itself_is_never_removed(storage: LocalStorage) -> None:
    with pytest.raises(AssertionError):
        storage.remove(".")


def test_room_is_told_before_the_root_exists(tmp_path: Path) -> None:
    assert LocalStorage(tmp_path / "not" / "yet").free_bytes() > 0


def test_content_and_names_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    storage = LocalStorage(tmp_path)
    storage.make_folder("a/b")
    storage.write_bytes("a/b/c", b"x")
    storage.sync_folder("a/b")
    assert [Path(one).relative_to(tmp_path).as_posix() for one in synced] == [".", "a", "a/b/c", "a/b"]
