"""No path leaves the root, and what is written is durable."""

from __future__ import annotations

import errno
import os
import tracemalloc
from pathlib import Path

import pytest
from checkpoint_cases import Stopped, StoppingStorage, calls_of

from espalier.config.faults import RefusedInput
from espalier.storage.contract import is_unfinished, replace_folder, unfinished
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


def test_a_small_file_takes_no_more_memory_than_it_has_whatever_the_bound(storage: LocalStorage) -> None:
    storage.write_bytes("file", b"abc")
    tracemalloc.start()
    assert storage.read_bytes("file", max_bytes=2**40) == b"abc"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


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
    assert [os.path.relpath(one, tmp_path) for one in synced] == ["..", ".", "a", "a/b/c", "a/b"]


def test_a_file_is_replaced_or_added_to_and_a_full_disk_names_it(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"one", b"two"):
        storage.replace("a", content)
        assert storage.read_bytes("a", max_bytes=9) == content
    storage.append("a", b"-three")
    assert storage.read_end("a", 4) == b"hree" and storage.read_end("a", 99) == b"two-three"
    storage.replace("out-link", b"x")
    (storage.root / "link").symlink_to(storage.root.parent / "secret")
    storage.replace("link", b"mine")
    assert (storage.root.parent / "secret").read_text() == "s" and not (storage.root / "link").is_symlink()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{storage.root / 'a'}'"):
        storage.replace("a", b"four")
    assert storage.read_bytes("a", max_bytes=9) == b"two-three"
    assert not [name for name in storage.list(".") if is_unfinished(name)]


def test_a_folder_that_replaces_another_is_there_in_one_of_both_contents_wherever_it_stops(tmp_path: Path) -> None:
    counted = StoppingStorage(_two_folders(tmp_path / "counted"))
    replace_folder(counted, "made", "kept")
    assert counted.list("kept") == ("new",) and counted.list(".") == ("kept",)
    for stop_at in range(counted.num_calls):
        root = _two_folders(tmp_path / str(stop_at))
        with pytest.raises(Stopped):
            replace_folder(StoppingStorage(root, stop_at=stop_at, how="torn"), "made", "kept")
        there = {LocalStorage(root).list(name) for name in LocalStorage(root).list(".")}
        assert ("new",) in there, "what is complete is somewhere"
        assert LocalStorage(root).list("kept") in ((), ("old", "old2"), ("new",)), "never a part under its name"


def _two_folders(root: Path) -> Path:
    for path in ("kept/old", "kept/old2", "made/new"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_unfinished_names_are_of_one_file() -> None:
    name = unfinished("exports/out")
    assert is_unfinished(name) and is_unfinished(name, of="exports/out")
    assert not is_unfinished(name, of="exports") and not is_unfinished(unfinished("out.v2"), of="out")
    assert not is_unfinished("x.unfinished")
