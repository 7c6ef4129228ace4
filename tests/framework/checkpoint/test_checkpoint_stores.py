"""What a checkpoint asks of a storage holds for a folder, for objects in memory and for S3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import xxhash
from checkpoint_cases import SHAPES, Stopped, StoppingStorage, calls_of, cut, make_origin, make_tensors
from checkpoint_old_and_new import NEW, OLD, SEEDS, STAGE, holds, save, save_new
from checkpoint_stores import Stop, hooked

from espalier.checkpoint.manifest import DamagedCheckpoint
from espalier.checkpoint.manifest_file import MANIFEST, is_committed, load_manifest
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.steps import Latest, latest, retain
from espalier.checkpoint.write import SupersededAttempt, begin, commit, write_fragments
from espalier.config.faults import RefusedInput
from espalier.storage.contract import Storage
from espalier.storage.objects import open_storage

pytestmark = pytest.mark.usefixtures("short_pauses")


def test_files(place: str) -> None:
    storage = open_storage(place)
    storage.make_folder("a/b")
    storage.write_bytes("a/b/one", b"first")
    storage.write_bytes("a/b/one", bytes(range(101)))
    storage.publish("a/b/two", b"2")
    storage.publish("a/three", b"")
    assert storage.list("a") == ("b", "three")
    assert storage.list("a/b") == ("one", "two")
    assert storage.list("a/b/one") == storage.list("nothing") == ()
    assert [storage.exists(path) for path in ("a", "a/b", "a/b/two", "a/tw", "a/b/two/c")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert storage.num_bytes("a/b/one") == 101
    assert storage.xxh3("a/b/one") == xxhash.xxh3_128_hexdigest(bytes(range(101)))
    assert storage.read_bytes("a/b/one", max_bytes=101) == bytes(range(101))
    assert storage.read_bytes("a/three", max_bytes=0) == b""
    with pytest.raises(ValueError, match="larger than 100"):
        storage.read_bytes("a/b/one", max_bytes=100)
    assert storage.free_bytes() > 0


def test_a_file_that_is_not_there(place: str) -> None:
    storage = open_storage(place)
    calls = [
        lambda: storage.num_bytes("gone"),
        lambda: storage.xxh3("gone"),
        lambda: storage.read_bytes("gone", max_bytes=9),
        lambda: storage.open_tensors("gone"),
        lambda: storage.rename("gone", "b"),
    ]
    for call in calls:
        with pytest.raises(FileNotFoundError):
            call()


def test_removing_and_renaming_stop_at_the_name(place: str) -> None:
    storage = open_storage(place)
    for path in ("step-1/a", "step-1/b/c", "step-10/a", "step-1*"):
        storage.make_folder(path.rpartition("/")[0] or ".")
        storage.write_bytes(path, path.encode())
    storage.remove("step-1*")
    assert storage.list(".") == ("step-1", "step-10")
    storage.rename("step-1", "step-2")
    assert storage.list(".") == ("step-10", "step-2")
    assert storage.read_bytes("step-2/b/c", max_bytes=99) == b"step-1/b/c"
    storage.rename("step-2/a", "step-10/a")
    assert storage.read_bytes("step-10/a", max_bytes=99) == b"step-1/a"
    storage.remove("step-2")
    assert storage.list(".") == ("step-10",)
    with pytest.raises(AssertionError, match="root"):
        storage.remove(".")


@pytest.mark.parametrize("path", ["../secret", "a/../../secret", "/etc/hostname", "a\0b"])
def test_a_path_that_leaves_the_root_is_refused(place: str, path: str) -> None:
    storage = open_storage(place)
    for call in calls_of(storage, path):
        with pytest.raises(RefusedInput, match="stays inside"):
            call()


def test_a_checkpoint_comes_back(place: str) -> None:
    storage = open_storage(place)
    assert latest(storage, STAGE) == Latest(None)
    save(storage, OLD, num_ranks=3)
    save(storage, NEW)
    assert latest(storage, STAGE) == Latest(NEW)
    assert holds(storage, OLD)
    assert holds(storage, NEW)
    assert set(storage.list(NEW)) == {*load_manifest(storage, NEW).files, MANIFEST}
    assert retain(storage, STAGE, keep_latest=1) == (OLD,)
    assert storage.list(STAGE) == (NEW.rpartition("/")[2],)


def test_damage_is_seen(place: str) -> None:
    storage = open_storage(place)
    save(storage, OLD)
    save(storage, NEW)
    name = f"{NEW}/{min(load_manifest(storage, NEW).files)}"
    data = storage.read_bytes(name, max_bytes=2**20)
    storage.write_bytes(name, data[:-1] + bytes([data[-1] ^ 1]))
    found = latest(storage, STAGE)
    assert found.folder == OLD
    assert [error.folder for error in found.damaged] == [NEW]
    storage.write_bytes(name, b"no tensors")
    with pytest.raises(DamagedCheckpoint):
        StateReader(storage, NEW, manifest=load_manifest(storage, NEW)).tensor("parameter", "body.weight")


def test_an_earlier_attempt_is_fenced_off(place: str) -> None:
    storage = open_storage(place)
    begin(storage, OLD, attempt=1)
    save(storage, OLD, num_ranks=1, attempt=2)
    late = write_fragments(storage, OLD, fragments=cut(make_tensors(9), num_ranks=1)[0], rank=0, attempt=1)
    origin = make_origin(step=500, attempt=1, num_ranks=1)
    with pytest.raises(SupersededAttempt):
        commit(storage, OLD, origin=origin, shapes=SHAPES, state={}, ranks=[late])
    with pytest.raises(SupersededAttempt):
        begin(storage, OLD, attempt=1)
    assert holds(storage, OLD)


def test_an_attempt_that_looked_before_it_was_superseded_replaces_nothing(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood still between the last look and the manifest, while its successor saved the same step."""
    storage = open_storage(place)
    begin(storage, OLD, attempt=1)
    late = write_fragments(storage, OLD, fragments=cut(make_tensors(9), num_ranks=1)[0], rank=0, attempt=1)
    origin = make_origin(step=500, attempt=1, num_ranks=1)
    publish = storage.publish

    def after_a_while(path: str, data: bytes) -> None:
        save(open_storage(place), OLD, num_ranks=1, attempt=2)
        publish(path, data)

    monkeypatch.setattr(storage, "publish", after_a_while)
    with pytest.raises(SupersededAttempt):
        commit(storage, OLD, origin=origin, shapes=SHAPES, state={}, ranks=[late])
    assert holds(open_storage(place), OLD)
    assert load_manifest(storage, OLD).origin.attempt == 2


def test_what_a_late_attempt_committed_after_begin_is_replaced(place: str) -> None:
    storage = open_storage(place)
    begin(storage, OLD, attempt=2)
    tensors = cut(make_tensors(SEEDS[OLD]), num_ranks=1)[0]
    ours = write_fragments(storage, OLD, fragments=tensors, rank=0, attempt=2)
    storage.publish(f"{OLD}/{MANIFEST}", b"of an attempt whose files are gone")
    origin = make_origin(step=500, attempt=2, num_ranks=1)
    commit(storage, OLD, origin=origin, shapes=SHAPES, state={}, ranks=[ours])
    assert load_manifest(storage, OLD).origin.attempt == 2


def test_what_is_published_is_not_replaced(place: str) -> None:
    storage = open_storage(place)
    storage.make_folder("a")
    storage.publish("a/one", b"1")
    with pytest.raises(FileExistsError):
        storage.publish("a/one", b"2")
    assert storage.read_bytes("a/one", max_bytes=1) == b"1"
    assert storage.list("a") == ("one",)


def test_each_process_holds_its_own_copy_to_the_hash(memory: str) -> None:
    """What one of them read and hashed says nothing of what another is given."""
    storage = open_storage(memory)
    save(storage, OLD)
    given = 0

    def spoil(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        nonlocal given
        answer = call(*arguments)
        if name == "get_file":
            given += 1
            path = Path(arguments[1])
            data = path.read_bytes()
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        return answer

    reader = StateReader.open(hooked(memory, spoil), OLD, verify=False)
    with pytest.raises(DamagedCheckpoint, match="not as it was written"):
        reader.tensor("parameter", "body.weight")
    assert given == 2


def _stopping(place: str, how: Literal["before", "after"], stop_at: int = -1) -> tuple[Storage, Callable[[], int]]:
    """A storage that stops at one of its changes, and how many it has seen."""
    if place.startswith("/"):
        local = StoppingStorage(Path(place), stop_at=stop_at, how=how)
        return local, lambda: local.num_calls
    stop = Stop(stop_at=stop_at, how=how)
    return hooked(place, stop), lambda: stop.num_calls


# S3 answers slowly here; before a call is after the one before it.
_CRASHES = [("local", "before"), ("local", "after"), ("memory", "before"), ("memory", "after"), ("bucket", "after")]


@pytest.mark.parametrize(("place", "how"), _CRASHES, indirect=["place"])
def test_every_crash_point_leaves_old_or_new(place: str, how: Literal["before", "after"]) -> None:
    counted, num_calls = _stopping(f"{place}/counted", how)
    num_ranks = 1 if place.startswith("s3") else 2
    save(open_storage(f"{place}/counted"), OLD, num_ranks=num_ranks)
    save_new(counted, num_ranks=num_ranks)
    assert num_calls() >= 2 * (num_ranks + 1)  # tensors and a manifest, written and removed
    seen = set()
    for stop_at in range(num_calls()):
        root = f"{place}/{stop_at}"
        safe = open_storage(root)
        save(safe, OLD, num_ranks=num_ranks)
        with pytest.raises(Stopped):
            save_new(_stopping(root, how, stop_at)[0], num_ranks=num_ranks)
        found = latest(safe, STAGE)
        assert found.folder in (OLD, NEW)
        assert found.damaged == ()
        assert holds(safe, found.folder)
        seen.add(found.folder)
        save_new(safe, num_ranks=num_ranks)
        assert holds(safe, NEW)
        assert safe.list(STAGE) == ("step-00001000",)
        assert set(safe.list(NEW)) == {*load_manifest(safe, NEW).files, MANIFEST}
    assert seen == {OLD, NEW}


def test_removing_a_checkpoint_begins_with_its_manifest(memory: str) -> None:
    save(open_storage(memory), OLD)
    with pytest.raises(Stopped):
        hooked(memory, Stop(stop_at=0, how="after")).remove("stages")
    assert not is_committed(open_storage(memory), OLD)
    assert len(open_storage(memory).list(OLD)) == 2
