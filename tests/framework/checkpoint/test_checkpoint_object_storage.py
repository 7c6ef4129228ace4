"""What a checkpoint asks of a storage holds for a folder, for objects in memory and for S3."""

from __future__ import annotations

import errno
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import xxhash
from checkpoint_cases import SHAPES, Stopped, StoppingStorage, cut, make_origin, make_tensors, save_ranks
from checkpoint_stores import S3, LateListing, Stop, hooked, serving
from fsspec.core import url_to_fs
from fsspec.implementations.memory import MemoryFileSystem
from s3fs import S3FileSystem

from espalier.checkpoint import object_storage
from espalier.checkpoint.manifest import DamagedCheckpoint
from espalier.checkpoint.manifest_file import MANIFEST, is_committed, load_manifest
from espalier.checkpoint.object_storage import ObjectStorage, open_storage
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.steps import Latest, latest, retain, stage_folder, step_folder
from espalier.checkpoint.storage import LocalStorage, Storage
from espalier.checkpoint.write import SupersededAttempt, begin, commit, write_fragments
from espalier.config.faults import RefusedInput

OLD, NEW = step_folder("heal", 500), step_folder("heal", 1000)
STAGE = stage_folder("heal")
SEEDS = {OLD: 1, NEW: 2}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving() as store:
        yield store


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_storage, "_PAUSES_SECONDS", (0.001, 0.001, 0.001))


@pytest.fixture
def memory() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def bucket(s3: S3) -> Iterator[str]:
    yield f"s3://bucket/{uuid.uuid4().hex}"
    s3.trouble = lambda environ: None


@pytest.fixture(params=["local", "memory", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue(request.param)


def _save(storage: Storage, folder: str, *, num_ranks: int = 2, attempt: int = 1) -> None:
    ranks = cut(make_tensors(SEEDS[folder]), num_ranks=num_ranks)
    save_ranks(storage, folder, ranks=ranks, step=int(folder[-8:]), attempt=attempt)


def _save_new(storage: Storage, *, num_ranks: int = 2) -> None:
    _save(storage, NEW, num_ranks=num_ranks)
    retain(storage, STAGE, keep_latest=1)


def _holds(storage: Storage, folder: str) -> bool:
    reader = StateReader.open(storage, folder)
    return all(torch.equal(reader.tensor(*key), one) for key, one in make_tensors(SEEDS[folder]).items())


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
    calls = [
        lambda: storage.read_bytes(path, max_bytes=9),
        lambda: storage.write_bytes(path, b"x"),
        lambda: storage.publish(path, b"x"),
        lambda: storage.make_folder(path),
        lambda: storage.sync_folder(path),
        lambda: storage.remove(path),
        lambda: storage.rename(path, "b"),
        lambda: storage.rename("b", path),
        lambda: storage.list(path),
        lambda: storage.exists(path),
        lambda: storage.num_bytes(path),
        lambda: storage.xxh3(path),
        lambda: storage.open_tensors(path),
    ]
    for call in calls:
        with pytest.raises(RefusedInput, match="stays inside"):
            call()


def test_a_checkpoint_comes_back(place: str) -> None:
    storage = open_storage(place)
    assert latest(storage, STAGE) == Latest(None)
    _save(storage, OLD, num_ranks=3)
    _save(storage, NEW)
    assert latest(storage, STAGE) == Latest(NEW)
    assert _holds(storage, OLD)
    assert _holds(storage, NEW)
    assert set(storage.list(NEW)) == {*load_manifest(storage, NEW).files, MANIFEST}
    assert retain(storage, STAGE, keep_latest=1) == (OLD,)
    assert storage.list(STAGE) == (NEW.rpartition("/")[2],)


def test_damage_is_seen(place: str) -> None:
    storage = open_storage(place)
    _save(storage, OLD)
    _save(storage, NEW)
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
    _save(storage, OLD, num_ranks=1, attempt=2)
    late = write_fragments(storage, OLD, fragments=cut(make_tensors(9), num_ranks=1)[0], rank=0, attempt=1)
    origin = make_origin(step=500, attempt=1, num_ranks=1)
    with pytest.raises(SupersededAttempt):
        commit(storage, OLD, origin=origin, shapes=SHAPES, state={}, ranks=[late])
    with pytest.raises(SupersededAttempt):
        begin(storage, OLD, attempt=1)
    assert _holds(storage, OLD)


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
    _save(open_storage(f"{place}/counted"), OLD, num_ranks=num_ranks)
    _save_new(counted, num_ranks=num_ranks)
    assert num_calls() >= 2 * (num_ranks + 1)  # tensors and a manifest, written and removed
    seen = set()
    for stop_at in range(num_calls()):
        root = f"{place}/{stop_at}"
        safe = open_storage(root)
        _save(safe, OLD, num_ranks=num_ranks)
        with pytest.raises(Stopped):
            _save_new(_stopping(root, how, stop_at)[0], num_ranks=num_ranks)
        found = latest(safe, STAGE)
        assert found.folder in (OLD, NEW)
        assert found.damaged == ()
        assert _holds(safe, found.folder)
        seen.add(found.folder)
        _save_new(safe, num_ranks=num_ranks)
        assert _holds(safe, NEW)
        assert safe.list(STAGE) == ("step-00001000",)
        assert set(safe.list(NEW)) == {*load_manifest(safe, NEW).files, MANIFEST}
    assert seen == {OLD, NEW}


def test_removing_a_checkpoint_begins_with_its_manifest(memory: str) -> None:
    _save(open_storage(memory), OLD)
    with pytest.raises(Stopped):
        hooked(memory, Stop(stop_at=0, how="after")).remove("stages")
    assert not is_committed(open_storage(memory), OLD)
    assert len(open_storage(memory).list(OLD)) == 2


class _Throttled(Exception):
    response = {"ResponseMetadata": {"HTTPStatusCode": 503}}  # noqa: RUF012


class _Answered(Exception):
    status = 429


HTTPClientError = type("HTTPClientError", (Exception,), {})
_PASSING = [
    OSError(errno.EBUSY, "slow down"),
    OSError(errno.EREMOTEIO, "internal error"),
    ConnectionResetError("reset"),
    TimeoutError("timeout"),
    _Throttled("throttled"),
    _Answered("too many"),
    type("ReadTimeoutError", (HTTPClientError,), {})("read timeout"),
]


def _failing(error: Exception, *, num_times: int, after: bool = False) -> tuple[Any, list[str]]:
    """A hook under which every call fails so many times, and what was called."""
    calls: list[str] = []

    def hook(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        key = f"{name} {arguments[0]}"
        calls.append(key)
        if calls.count(key) % (num_times + 1):
            if after:
                call(*arguments)
            raise error
        return call(*arguments)

    return hook, calls


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("error", _PASSING, ids=lambda error: type(error).__name__)
def test_what_passes_is_tried_again(memory: str, error: Exception, after: bool) -> None:
    _save(open_storage(memory), OLD)
    storage = hooked(memory, _failing(error, num_times=3, after=after)[0])
    _save_new(storage)
    assert latest(storage, STAGE) == Latest(NEW)
    assert _holds(storage, NEW)
    assert storage.list(STAGE) == ("step-00001000",)


def test_tries_are_bounded(memory: str) -> None:
    hook, calls = _failing(ConnectionResetError("reset"), num_times=99)
    with pytest.raises(ConnectionResetError):
        hooked(memory, hook).write_bytes("a", b"x")
    assert len(calls) == 4
    assert not open_storage(memory).exists("a")


@pytest.mark.parametrize(
    "error", [PermissionError("no"), OSError(errno.EIO, "disk"), ValueError("what"), KeyError("k")]
)
def test_all_else_is_an_os_error_at_once(memory: str, error: Exception) -> None:
    hook, calls = _failing(error, num_times=99)
    with pytest.raises(OSError) as caught:
        hooked(memory, hook).write_bytes("a", b"x")
    assert len(calls) == 1
    assert caught.value is error or (caught.value.__cause__ is error and str(error) in str(caught.value))


@pytest.mark.parametrize("question", ["info", "ls"])
def test_a_store_that_does_not_answer_is_not_taken_for_an_empty_one(
    memory: str, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    def refuse(files: MemoryFileSystem, path: str, *arguments: Any, **settings: Any) -> None:
        raise PermissionError("expired")

    _save(open_storage(memory), OLD)
    monkeypatch.setattr(MemoryFileSystem, question, refuse)
    with pytest.raises(PermissionError):
        latest(open_storage(memory), STAGE)
    with pytest.raises(PermissionError):
        begin(open_storage(memory), OLD, attempt=2)


def test_a_late_listing_shows_old_or_new(memory: str) -> None:
    live = open_storage(memory)
    _save(live, OLD)
    listing = LateListing()
    late = hooked(memory, listing)
    _save_new(late)
    assert latest(late, STAGE) == Latest(OLD)
    assert _holds(late, OLD)
    listing.catch_up()
    assert latest(late, STAGE) == Latest(NEW)
    assert retain(late, STAGE, keep_latest=1) == (OLD,)
    assert retain(late, STAGE, keep_latest=1) == (OLD,)  # still listed, and gone
    assert latest(late, STAGE) == Latest(NEW)
    _save(late, OLD)
    assert _holds(live, OLD)


def _counting(calls: list[str]) -> Any:
    def hook(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        calls.append(name)
        return call(*arguments)

    return hook


@pytest.mark.parametrize(("max_kept_bytes", "num_downloads"), [(2**30, 2), (0, 4)])
def test_what_was_verified_is_read_without_another_download(
    memory: str, max_kept_bytes: int, num_downloads: int
) -> None:
    calls: list[str] = []
    storage = hooked(memory, _counting(calls), max_kept_bytes=max_kept_bytes)
    _save(storage, NEW)
    assert _holds(storage, NEW)
    assert calls.count("get_file") == num_downloads


def test_one_tensor_asks_for_the_files_that_hold_it(memory: str) -> None:
    calls: list[str] = []
    storage = hooked(memory, _counting(calls))
    _save(storage, NEW, num_ranks=3)
    reader = StateReader.open(storage, NEW, verify=False)
    values = reader.read("parameter", "body.weight", offset=1, length=5)
    assert torch.equal(values, make_tensors(2)["parameter", "body.weight"].flatten()[1:6])
    assert calls.count("get_file") == 1


def test_a_kept_copy_is_not_used_for_another_object_of_its_name(place: str) -> None:
    storage = open_storage(place)
    storage.write_bytes("a", b"one")
    first = storage.xxh3("a")
    open_storage(place).write_bytes("a", b"two")
    assert storage.xxh3("a") == xxhash.xxh3_128_hexdigest(b"two") != first


def test_nothing_is_left_on_the_local_disk(memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def num_open() -> int:
        links = [os.path.realpath(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd")]
        return sum(link.startswith(str(tmp_path)) for link in links)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    storage = open_storage(memory)
    _save(storage, NEW)
    reader = StateReader.open(storage, NEW)
    reader.tensor("parameter", "scale")
    assert num_open() == 2
    assert list(tmp_path.iterdir()) == []
    storage.remove(NEW)
    assert num_open() == 0
    assert torch.equal(reader.tensor("parameter", "scale"), make_tensors(2)["parameter", "scale"])


def test_a_download_cut_short_is_tried_again(memory: str) -> None:
    _save(open_storage(memory), NEW)
    cuts: list[str] = []

    def cut_short(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        answer = call(*arguments)
        if name == "get_file" and arguments[0] not in cuts:
            cuts.append(arguments[0])
            os.truncate(arguments[1], 100)
        return answer

    assert _holds(hooked(memory, cut_short), NEW)
    assert len(cuts) == 2


def test_a_listing_is_asked_of_the_store_each_time(bucket: str) -> None:
    """Two processes have two caches."""
    storage, (other, root) = open_storage(bucket), url_to_fs(bucket, skip_instance_cache=True)
    storage.write_bytes("a/one", b"1")
    assert storage.list("a") == ("one",)
    ObjectStorage(other, root).write_bytes("a/two", b"2")
    assert storage.list("a") == ("one", "two")
    assert storage.exists("a/two")
    ObjectStorage(other, root).remove("a/one")
    assert storage.list("a") == ("two",)
    assert not storage.exists("a/one")


def test_s3_that_refuses_each_request_once(bucket: str, s3: S3) -> None:
    _save(open_storage(bucket), OLD)
    refused: set[tuple[str, ...]] = set()

    def once(environ: Any) -> str | None:
        request = tuple(environ.get(key, "") for key in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING"))
        if request in refused:
            return None
        refused.add(request)
        return "503 Service Unavailable"

    s3.trouble = once
    storage = open_storage(bucket)
    _save_new(storage)
    assert latest(storage, STAGE) == Latest(NEW)
    assert _holds(storage, NEW)
    assert {request[0] for request in refused} == {"GET", "HEAD", "PUT", "DELETE"}


@pytest.mark.parametrize("status", ["503 Service Unavailable", "403 Access Denied"])
def test_s3_that_refuses_for_good_leaves_the_old(bucket: str, s3: S3, status: str) -> None:
    storage = open_storage(bucket)
    _save(storage, OLD)
    s3.trouble = lambda environ: status if environ["PATH_INFO"].endswith(MANIFEST) else None
    with pytest.raises(OSError) as caught:
        _save(storage, NEW)
    assert isinstance(caught.value, PermissionError) == status.startswith("403")
    s3.trouble = lambda environ: None
    assert latest(storage, STAGE) == Latest(OLD)


def test_an_upload_in_parts_that_fails_half_way_leaves_no_object(bucket: str, s3: S3) -> None:
    part_bytes = 5 * 2**20  # the least that S3 takes

    def in_parts(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        return call(*arguments, chunksize=part_bytes, max_concurrency=1) if name == "pipe_file" else call(*arguments)

    storage, data = hooked(bucket, in_parts), os.urandom(2 * part_bytes + 7)
    s3.trouble = lambda environ: "403 Access Denied" if "partNumber=2" in environ["QUERY_STRING"] else None
    with pytest.raises(PermissionError):
        storage.write_bytes("large", data)
    s3.trouble = lambda environ: None
    assert not storage.exists("large")
    assert storage.list(".") == ()
    assert S3FileSystem().list_multipart_uploads("bucket") == []
    storage.write_bytes("large", data)
    assert storage.xxh3("large") == xxhash.xxh3_128_hexdigest(data)


def test_a_download_in_parts(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, data = open_storage(bucket), os.urandom(2**20 + 7)
    storage.write_bytes("large", data)
    monkeypatch.setattr(S3FileSystem, "default_block_size", 2**18)
    monkeypatch.setattr(url_to_fs(bucket)[0], "default_block_size", 2**18)
    assert storage.xxh3("large") == xxhash.xxh3_128_hexdigest(data)


def test_a_bucket_that_is_not_there(s3: S3) -> None:
    storage = open_storage("s3://other/runs")
    assert latest(storage, STAGE) == Latest(None)
    with pytest.raises(FileNotFoundError):
        _save(storage, OLD)


def test_a_folder_is_opened_by_path_or_file_url(tmp_path: Path) -> None:
    for place in (tmp_path, str(tmp_path), f"file://{tmp_path}"):
        storage = open_storage(place)
        assert isinstance(storage, LocalStorage)
        assert storage.root == tmp_path.resolve()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("runs/one", "an absolute path"),
        ("file://runs/one", "an absolute path"),
        ("nowhere://runs", "one of .*memory"),
        ("simplecache::memory://runs", "without `::`"),
        ("memory://", "a bucket or folder too"),
        ("s3://", "a bucket or folder too"),
    ],
)
def test_a_place_that_is_no_storage_is_refused(place: str, reason: str) -> None:
    with pytest.raises(RefusedInput, match=reason):
        open_storage(place)


def test_a_store_whose_library_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(place: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(object_storage, "url_to_fs", missing)
    with pytest.raises(RefusedInput, match=r"espalier-train\[s3\]"):
        open_storage("s3://bucket/runs")
