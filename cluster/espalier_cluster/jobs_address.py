"""Find the Jobs server that `--address` means, under the rules of `joining`: it must ask for a token."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

from espalier.config.faults import Fault, RefusedInput
from espalier_cluster.environment import override_variables
from espalier_cluster.jobs_server import RayJobsServer, asks_for_token, no_server
from espalier_cluster.joining import forget_token, has_token, require_protected, resolve

_URL = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]+:[0-9]{1,5}")
_LOOPBACK = ("127.0.0.1", "localhost", "::1", "0.0.0.0")
_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_REACH_SECONDS = 10.0


def connect(address: str | None, *, insecure: bool) -> RayJobsServer:
    """The Jobs server of a cluster.

    Args:
        address: `host:port` of the head, `auto`, or the URL of the Jobs server; None: what RAY_ADDRESS says, or `auto`.
        insecure: accept a cluster that requires no token.

    Raises:
        RefusedInput: the variables of Ray name another cluster, there is no Jobs server, it asks nobody for a token,
            or it does not take this user's.
    """
    asked = _one_address(address)
    url = asked if _URL.fullmatch(asked) else _url_of_head(resolve(asked), given=asked, insecure=insecure)
    if not insecure and not has_token():
        raise _refused(asked, "a cluster with token authentication: set RAY_AUTH_TOKEN_PATH, or pass --insecure")
    is_protected = asks_for_token(url, address=asked)
    if not is_protected and not insecure:
        text = "a cluster that turns away who has no token; this one lets anybody in: start it with RAY_AUTH_MODE=token"
        raise _refused(asked, f"{text}, or pass --insecure")
    return RayJobsServer(url, address=asked, token=_token() if is_protected else None)


def names_a_cluster() -> bool:
    """Whether one of Ray's variables names a cluster."""
    return any(os.environ.get(name) for name in _VARIABLES)


def _one_address(address: str | None) -> str:
    """The address that is meant; refuses variables that contradict it, as Ray lets them win without a word."""
    for name in _VARIABLES:
        named = os.environ.get(name)
        if not named:
            continue
        if address is None:
            return named
        if address != named and not (address == "auto" and name == "RAY_ADDRESS"):
            raise _refused(address, f"the cluster that {name} names ({named}); unset it, or leave out --address")
    return address or "auto"


def _url_of_head(head: str, *, given: str, insecure: bool) -> str:
    """Ask the head node for the address of its Jobs server.

    Raises:
        RefusedInput: the head has none, or one that listens on the loopback of another machine.
    """
    with override_variables(require_protected(head, insecure=insecure)):
        forget_token()
        try:
            found = _ask_head(head, given=given)
        finally:
            forget_token()
    if not found:
        raise no_server(given, "this head has none")
    url = f"http://{found}"
    if urlsplit(url).hostname in _LOOPBACK and not _is_here(head.rpartition(":")[0].strip("[]")):
        port = found.rpartition(":")[2]
        text = f"it listens on the loopback of its head: forward the port (`ssh -L {port}:127.0.0.1:{port} <head>`)"
        raise no_server(given, f"{text} and give --address http://127.0.0.1:{port}")
    return url


def _ask_head(head: str, *, given: str) -> str:
    from ray._private import ray_constants  # private (2.60), as is what the address is kept under
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled, without stubs
    from ray.exceptions import AuthenticationError, RpcError

    key, namespace = ray_constants.DASHBOARD_ADDRESS.encode(), ray_constants.KV_NAMESPACE_DASHBOARD
    try:
        found = GcsClient(address=head).internal_kv_get(key, namespace, timeout=_REACH_SECONDS)
    except AuthenticationError:
        text = "a cluster that knows your token; it turned away the one of RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH"
        raise _refused(given, f"{text} or ~/.ray/auth_token") from None
    except (RpcError, RuntimeError) as error:
        raise _refused(given, f"the address of a Ray head node of the same version ({error})") from None
    return found.decode() if found else ""


def _is_here(host: str) -> bool:
    """Whether a host is this machine: nobody else can bind one of its addresses."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(where)
    except OSError:
        return False
    return True


def _token() -> str | None:
    """The token that Ray would send: of RAY_AUTH_TOKEN, the file of RAY_AUTH_TOKEN_PATH, or the home's."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token"))
    try:
        return path.read_text().strip()
    except OSError as error:
        text = f"a file that can be read ({error.strerror})"
        raise RefusedInput([Fault("RAY_AUTH_TOKEN_PATH", str(path), text)]) from None


def _refused(address: str, allowed: str) -> RefusedInput:
    return RefusedInput([Fault("--address", address, allowed)])
