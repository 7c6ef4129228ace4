"""Resolve `--address` to a Ray cluster, and refuse a cluster that does not require a token.

Processes of one Ray cluster can run code in each other. Whoever can join a cluster without a token can read the files
and keys of every user who has joined it.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from espalier.config.faults import Fault, RefusedInput
from espalier_cluster.environment import override_variables
from espalier_cluster.log_filter import without_native_lines

_REACH_SECONDS = 5.0


def resolve(address: str) -> str:
    """Turn `--address` into the `host:port` to join.

    Raises:
        RefusedInput: not an address; or `auto` on a machine where neither this user nor root has started a cluster.
    """
    if address != "auto":
        return _checked(address, given=address)
    if named := os.environ.get("RAY_ADDRESS"):
        return _checked(named, given=address)
    from ray._private.utils import get_ray_address_file  # private (2.60); its folder is writable for every user

    file = Path(get_ray_address_file(None))
    try:
        owner, found = file.stat().st_uid, file.read_text().strip()
    except OSError:
        raise _refused(
            address, "a machine on which `ray start` was run; or the head node's address, `host:port`"
        ) from None
    if owner not in (0, os.getuid()):
        text = f"a cluster that you have started; {file} is another user's: give the head node's address, `host:port`"
        raise _refused(address, text)
    return _checked(found, given=address)


def require_protected(address: str, *, insecure: bool) -> dict[str, str]:
    """Check that the cluster answers and requires a token; returns the variables to join it with.

    Args:
        address: `host:port`.

    Raises:
        RefusedInput: nothing answers; or, unless `insecure`, there is no token here or the cluster requires none.
    """
    host, port = _split(address)
    try:
        socket.create_connection((host, port), _REACH_SECONDS).close()
    except OSError as error:
        text = f"the address of a running cluster; nothing answered within {_REACH_SECONDS:.0f} s ({error})"
        raise _refused(address, text) from error
    if not insecure and (os.environ.get("RAY_AUTH_MODE") == "disabled" or not has_token()):
        raise _refused(address, "a cluster with token authentication: set RAY_AUTH_TOKEN_PATH, or pass --insecure")
    is_open = _lets_anybody_in(address)
    if is_open and not insecure:
        text = "a cluster that turns away who has no token; this one lets anybody in: start it with RAY_AUTH_MODE=token"
        raise _refused(address, f"{text}, or pass --insecure")
    if is_open or not has_token():
        return {"RAY_AUTH_MODE": "disabled"}  # do not send a token to a cluster that does not require it
    return {"RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token")}


def has_token() -> bool:
    """Whether Ray would find a token in the environment or the home directory."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token")
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or os.path.isfile(path)


def forget_token() -> None:
    """Make Ray read mode and token again: a process caches those that it read first (2.60)."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled, without stubs

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _lets_anybody_in(address: str) -> bool:
    """Whether the head node answers a request that carries no token."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled, without stubs
    from ray.exceptions import AuthenticationError, RpcError

    with override_variables({"RAY_AUTH_MODE": "disabled", "RAY_py_gcs_connect_timeout_s": f"{_REACH_SECONDS:.0f}"}):
        forget_token()
        try:
            with without_native_lines(b"Failed to get cluster ID"):  # which Ray logs although this code expects it
                GcsClient(address=address).internal_kv_get(b"session_name", b"session", timeout=_REACH_SECONDS)
        except AuthenticationError:
            return False
        except (RpcError, RuntimeError) as error:
            text = f"the address of a Ray head node; what listens there does not answer as one ({error})"
            raise _refused(address, text) from error
    return True


def _checked(address: str, *, given: str) -> str:
    _split(address, given=given)
    return address


def _split(address: str, *, given: str = "") -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if "//" in host or not host or not port.isdigit():
        raise _refused(given or address, "`auto`, or `host:port` of the head node, as in `10.0.0.5:6379`")
    return host.strip("[]"), int(port)


def _refused(address: str, allowed: str) -> RefusedInput:
    return RefusedInput([Fault("--address", address, allowed)])
