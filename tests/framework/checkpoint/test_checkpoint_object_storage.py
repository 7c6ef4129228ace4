"""What only a store does: it is busy, it lists late, it is far away, it refuses."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash
from checkpoint_cases import make_tensors
from checkpoint_old_and_new import NEW, OLD, STAGE, holds, save, save_new
from checkpoint_stores import S3, LateListing, hooked
from fsspec.core import url_to_fs
from fsspec.implementations.memory import MemoryFileSystem
from s3fs import S3FileSystem

from espalier.checkpoint.manifest_file import MANIFEST
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.steps import Latest, latest, retain
from espalier.checkpoint.write import begin
from espalier.config.faults import RefusedInput
from espalier.storage import objects
from espalier.storage.local import LocalStorage
from espalier.storage.objects import ObjectStorage, open_storage

pytestmark = pytest.mark.usefixtures("short_pauses")


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
    save(open_storage(memory), OLD)
    storage = hooked(memory, _failing(error, num_times=3, after=after)[0])
    save_new(storage)
    assert latest(storage, STAGE) == Latest(NEW)
    assert holds(storage, NEW)
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

    save(open_storage(memory), OLD)
    monkeypatch.setattr(MemoryFileSystem, question, refuse)
    with pytest.raises(PermissionError):
        latest(open_storage(memory), STAGE)
    with pytest.raises(PermissionError):
        begin(open_storage(memory), OLD, attempt=2)


def test_a_late_listing_shows_old_or_new(memory: str) -> None:
    live = open_storage(memory)
    save(live, OLD)
    listing = LateListing()
    late = hooked(memory, listing)
    save_new(late)
    assert latest(late, STAGE) == Latest(OLD)
    assert holds(late, OLD)
    listing.catch_up()
    assert latest(late, STAGE) == Latest(NEW)
    assert retain(late, STAGE, keep_latest=1) == (OLD,)
    assert retain(late, STAGE, keep_latest=1) == (OLD,)  # still listed, and gone
    assert latest(late, STAGE) == Latest(NEW)
    save(late, OLD)
    assert holds(live, OLD)


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
    save(storage, NEW)
    assert holds(storage, NEW)
    assert calls.count("get_file") == num_downloads


def test_one_tensor_asks_for_the_files_that_hold_it(memory: str) -> None:
    calls: list[str] = []
    storage = hooked(memory, _counting(calls))
    save(storage, NEW, num_ranks=3)
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
    save(storage, NEW)
    reader = StateReader.open(storage, NEW)
    reader.tensor("parameter", "scale")
    assert num_open() == 2
    assert list(tmp_path.iterdir()) == []
    storage.remove(NEW)
    assert num_open() == 0
    assert torch.equal(reader.tensor("parameter", "scale"), make_tensors(2)["parameter", "scale"])


def test_a_download_cut_short_is_tried_again(memory: str) -> None:
    save(open_storage(memory), NEW)
    cuts: list[str] = []

    def cut_short(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        answer = call(*arguments)
        if name == "get_file" and arguments[0] not in cuts:
            cuts.append(arguments[0])
            os.truncate(arguments[1], 100)
        return answer

    assert holds(hooked(memory, cut_short), NEW)
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
    save(open_storage(bucket), OLD)
    refused: set[tuple[str, ...]] = set()

    def once(environ: Any) -> str | None:
        request = tuple(environ.get(key, "") for key in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING"))
        if request in refused:
            return None
        refused.add(request)
        return "503 Service Unavailable"

    s3.trouble = once
    storage = open_storage(bucket)
    save_new(storage)
    assert latest(storage, STAGE) == Latest(NEW)
    assert holds(storage, NEW)
    assert {request[0] for request in refused} == {"GET", "HEAD", "PUT", "DELETE"}


@pytest.mark.parametrize("status", ["503 Service Unavailable", "403 Access Denied"])
def test_s3_that_refuses_for_good_leaves_the_old(bucket: str, s3: S3, status: str) -> None:
    storage = open_storage(bucket)
    save(storage, OLD)
    s3.trouble = lambda environ: status if environ["PATH_INFO"].endswith(MANIFEST) else None
    with pytest.raises(OSError) as caught:
        save(storage, NEW)
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
        save(storage, OLD)


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
        ("nowhere://runs", "a store that fsspec knows"),
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

    monkeypatch.setattr(objects, "url_to_fs", missing)
    with pytest.raises(RefusedInput, match=r"espalier-train\[s3\]"):
        open_storage("s3://bucket/runs")
