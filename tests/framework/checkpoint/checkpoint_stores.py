"""Object stores that misbehave when told: a file system with something in front, and S3 on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import Any, Literal

import pytest
from checkpoint_cases import Stopped
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.memory import MemoryFileSystem
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from s3fs import S3FileSystem
from werkzeug.serving import WSGIRequestHandler, make_server

from espalier.storage.objects import ObjectStorage

CHANGES = ("pipe_file", "cp_file", "rm_file")
Hook = Callable[[str, Callable[..., Any], tuple[Any, ...]], Any]


class Between:
    """A file system whose every call goes through `hook(name, call, arguments)`."""

    def __init__(self, files: AbstractFileSystem, hook: Hook) -> None:
        self._files = files
        self._hook = hook

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._files, name)
        if name == "invalidate_cache":
            return call
        return lambda *arguments, **named: self._hook(name, partial(call, **named), arguments)


def hooked(place: str, hook: Hook, **settings: Any) -> ObjectStorage:
    """The store at a URL, with a hook in front."""
    files, root = url_to_fs(place)
    return ObjectStorage(Between(files, hook), root, **settings)


class Stop:
    """Stops before or after one of the calls that change the store."""

    def __init__(self, *, stop_at: int = -1, how: Literal["before", "after"] = "before") -> None:
        self.num_calls = 0
        self._stop_at = stop_at
        self._how = how

    def __call__(self, name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if name not in CHANGES:
            return call(*arguments)
        stops = self.num_calls == self._stop_at
        self.num_calls += 1
        if stops and self._how == "before":
            raise Stopped
        answer = call(*arguments)
        if stops:
            raise Stopped
        return answer


class LateListing:
    """Lists what was there when `catch_up` was last called; all else is answered as it is now."""

    def __init__(self) -> None:
        self._then = MemoryFileSystem(global_store=False, skip_instance_cache=True)
        self.catch_up()

    def catch_up(self) -> None:
        self._then.store = dict(MemoryFileSystem.store)

    def __call__(self, name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        return (getattr(self._then, name) if name in ("ls", "find") else call)(*arguments)


class S3:
    """moto behind a door: `trouble(environ)` names the status that a request gets in its place."""

    def __init__(self) -> None:
        self.trouble: Callable[[Mapping[str, Any]], str | None] = lambda environ: None
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        status = self.trouble(environ)
        if status is None:
            return self._moto(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(status, [("Content-Type", "application/xml")])
        code = status.partition(" ")[2].replace(" ", "")
        answer = f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer]


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # a connection serves many requests

    def log(self, type: str, message: str, *args: Any) -> None:
        """Not a word: pytest would show it with every failure."""


@contextmanager
def serving() -> Iterator[S3]:
    """S3 on a free port of this machine, with a bucket `bucket`, where the environment says that S3 is."""
    store = S3()
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=_Quiet)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "of-a-test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "of-a-test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", "/dev/null")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")  # the tries counted here are ours
        patch.setattr(S3FileSystem, "retries", 1)
        S3FileSystem.clear_instance_cache()
        if not S3FileSystem().exists("bucket"):  # moto keeps its buckets as long as the process lives
            S3FileSystem().mkdir("bucket")
        yield store
    S3FileSystem.clear_instance_cache()
    server.shutdown()
    thread.join()
    server.server_close()
