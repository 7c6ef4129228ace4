"""What another user of the machine tries: every port, every file, everything that the system tells of a process."""

from __future__ import annotations

import encodings.idna  # noqa: F401, needed by sockets, and another user may not be able to read it
import errno
import http.client
import json
import os
import socket
import stat
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

NOBODY = 65534
_SECONDS = 3.0
_SECRET = ("environ", "mem", "maps", "auxv", "cwd", "root", "fd", "map_files", "io")
_TOLD_TO_ALL = ("cmdline", "status", "comm")
_TURNED_AWAY = (errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Tried:
    """One thing that was tried. `finding` says what should not have been possible; empty when nothing was."""

    what: str
    came: str
    finding: str = ""


def as_another_user(work: Callable[[], list[Tried]]) -> list[Tried]:
    """What `work` finds in a process that has become nobody; this one must be root's.

    A fork, and not another program: the interpreter may lie where nobody can read it.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.chdir("/")
            with os.fdopen(writing, "w") as pipe:
                json.dump([vars(one) for one in work()], pipe)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError("the process that was to be another user failed")
    return [Tried(**one) for one in json.loads(text)]


def try_files(paths: Iterable[Path]) -> list[Tried]:
    """Reading and writing each; folders are listed and written into."""
    return [one for path in paths for one in (_try_reading(path), _try_writing(path))]


def _try_reading(path: Path) -> Tried:
    try:
        if path.is_dir():
            os.listdir(path)
        else:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        return Tried(f"read {path}", errno.errorcode.get(error.errno or 0, str(error)))
    return Tried(f"read {path}", "done", "another user reads it")


def _try_writing(path: Path) -> Tried:
    try:
        if path.is_dir():
            if os.access(path, os.W_OK | os.X_OK) and not path.stat().st_mode & stat.S_ISVTX:
                return Tried(f"write {path}", "done", "another user writes into it")
            return Tried(f"write {path}", "EACCES")
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        return Tried(f"write {path}", errno.errorcode.get(error.errno or 0, str(error)))
    return Tried(f"write {path}", "done", "another user writes to it")


def try_processes(pids: Iterable[int], secrets: Iterable[bytes]) -> list[Tried]:
    """What /proc says of each process: nothing of its memory, files and environment; no secret in the rest."""
    secrets, found = tuple(secrets), []
    for pid in pids:
        for name in _SECRET:
            found.append(_try_proc(Path("/proc", str(pid), name)))
        for name in _TOLD_TO_ALL:
            path = Path("/proc", str(pid), name)
            try:
                told = any(secret in path.read_bytes() for secret in secrets)
            except OSError:
                continue  # it has ended
            found.append(Tried(f"read {path}", "done", "it tells a secret" if told else ""))
    return found


def _try_proc(path: Path) -> Tried:
    try:
        if path.name in ("cwd", "root"):
            os.readlink(path)
        elif path.is_dir():
            os.listdir(path)
        else:
            with path.open("rb") as file:
                file.read(1)
    except OSError as error:
        return Tried(f"read {path}", errno.errorcode.get(error.errno or 0, str(error)))
    return Tried(f"read {path}", "done", "another user reads it")


def try_unix_socket(path: str) -> Tried:
    """Connecting to a socket of the file system, or to one without a file."""
    what = f"connect to {path}"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_SECONDS)
        try:
            client.connect("\0" + path[1:] if path.startswith("@") else path)
        except OSError as error:
            return Tried(what, errno.errorcode.get(error.errno or 0, str(error)))
    return Tried(what, "done", "another user is let in")


def try_rpc(name: str, port: int, *, may_be_silent: bool) -> Tried:
    """A call of a method of each of Ray's services without a token. One that the server does not have tells nothing.

    Args:
        may_be_silent: whether it may be a port that does not speak gRPC.
    """
    answers = [_call(port, method) for method in _METHODS]
    what = f"call {name} at 127.0.0.1:{port} without a token"
    if any(b"InvalidAuthToken" in answer for answer in answers):
        return Tried(what, "turned away")
    if any(answers):
        return Tried(what, "answered", "it does not ask for a token")
    return Tried(what, "silence", "" if may_be_silent else "it speaks another language than Ray's")


_METHODS = (
    "NodeInfoGcsService/GetAllNodeInfo",
    "NodeManagerService/GetNodeStats",
    "CoreWorkerService/GetCoreWorkerStats",
    "ObjectManagerService/Pull",
)


def _call(port: int, method: str) -> bytes:
    """The raw answer to a gRPC call with an empty message: HTTP/2 by hand, as the interpreter brings no gRPC."""
    headers = {":method": "POST", ":scheme": "http", ":path": f"/ray.rpc.{method}", ":authority": "localhost"}
    headers |= {"content-type": "application/grpc", "te": "trailers"}
    packed = b"".join(
        bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in headers.items()
    )
    frames = _frame(4, 0, 0, b"") + _frame(1, 4, 1, packed) + _frame(0, 1, 1, bytes(5))
    answer = b""
    with socket.socket() as client:
        client.settimeout(_SECONDS)
        try:
            client.connect(("127.0.0.1", port))
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames)
            while b"grpc-status" not in answer and (more := client.recv(65536)):
                answer += more
        except OSError:
            pass
    return answer


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def try_http(name: str, port: int) -> Tried:
    """A request to one of Ray's web servers without a token, as a page in a browser could make it."""
    what, client = (
        f"ask {name} at 127.0.0.1:{port} without a token",
        http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS),
    )
    try:
        client.request("POST", "/get_or_create_runtime_env", body=b"")
        status = client.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return Tried(what, type(error).__name__)
    return Tried(what, str(status), "" if status in (401, 403) else "it answers without a token")


def try_noise(port: int) -> Tried:
    """Bytes that mean nothing. Whether they do harm shows in how the run ends."""
    with socket.socket() as client:
        client.settimeout(_SECONDS)
        try:
            client.connect(("127.0.0.1", port))
            client.sendall(os.urandom(4096))
            client.shutdown(socket.SHUT_WR)
            came = client.recv(64)
        except OSError as error:
            return Tried(f"noise to 127.0.0.1:{port}", errno.errorcode.get(error.errno or 0, type(error).__name__))
    return Tried(f"noise to 127.0.0.1:{port}", f"{len(came)} bytes came back")


def try_elsewhere(port: int, addresses: Iterable[str]) -> Tried:
    """Reaching the port by an address of this machine that other machines know."""
    for address in addresses:
        with socket.socket() as client:
            client.settimeout(0.5)
            if client.connect_ex((address, port)) == 0:
                return Tried(f"connect to {address}:{port}", "done", "other machines reach it")
    return Tried(f"connect to port {port} by another address", "nobody listens")
