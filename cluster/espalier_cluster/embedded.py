"""The Ray cluster that a run works on: a local one that starts and ends with it, or one that it joins."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from espalier.config.faults import Fault, RefusedInput
from espalier.config.job import WorkersConfig
from espalier_cluster.silence import environment

# Ray is imported inside the functions: it reads its variables on import, so they are set first.
_RAY = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a worker that asked for no GPU sees none
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",  # within that a lost worker is noticed; Ray takes 2
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "5",  # ranks that wait for a lost one never leave
}
_LOCAL = {"RAY_prestart_worker_first_driver": "0"}  # no worker of ours fits the processes that Ray starts in advance
_STORE_BYTES = 256 * 2**20  # for orders and results; tensors never travel through Ray
_REACH_SECONDS = 5.0


@contextlib.contextmanager
def cluster(
    workers: WorkersConfig, *, address: str | None = None, insecure: bool = False, verbose: bool = False
) -> Iterator[None]:
    """Be connected to Ray inside. A cluster that was started here is gone afterwards, with its files.

    Args:
        address: `host:port` of a running cluster, or `auto` for the one on this machine; None starts one.
        insecure: join a cluster on another machine even where no token protects it.
        verbose: let Ray carry what all its processes write to this terminal.

    Raises:
        RefusedInput: the cluster cannot be reached or joined, or there is no token for it.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_environment_kept())
        stack.enter_context(environment(_RAY))
        if address is None:
            stack.enter_context(environment(_LOCAL))
            options = _local_options(workers, stack.enter_context(_folder()))
        else:
            stack.enter_context(environment(_token_mode(address, insecure=insecure)))
            options = {"address": address, "runtime_env": {"env_vars": {**_RAY, **_code_path()}}}
        _connect(options, verbose=verbose)
        try:
            yield
        finally:
            _disconnect()


def _connect(options: dict[str, Any], *, verbose: bool) -> None:
    import ray

    level = logging.INFO if verbose else logging.ERROR
    on_termination = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options, log_to_driver=verbose, logging_level=level)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if options["address"] == "local":
            raise
        allowed = f"a cluster that lets this process in; run on one of its nodes ({error})"
        raise RefusedInput([Fault("--address", options["address"], allowed)]) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_termination)  # Ray puts its own in its place (2.60)


def _local_options(workers: WorkersConfig, folder: str) -> dict[str, Any]:
    _make_token()
    return {
        # What the job asks for: a small machine runs it slowly rather than never. GPUs are what Ray finds.
        "address": "local",  # whatever RAY_ADDRESS says
        "num_cpus": workers.count * workers.cpus_each + 1,
        "object_store_memory": _STORE_BYTES,
        "include_dashboard": False,
        "_temp_dir": folder,
    }


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    # In /tmp and not in TMPDIR: Ray's sockets lie in it, and the path of a socket is limited to 107 bytes.
    folder = tempfile.mkdtemp(prefix="espalier-", dir="/tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_token() -> None:
    """Ray would make the token itself, but readable for every user of the machine (2.60)."""
    path = Path.home() / ".ray" / "auth_token"
    if _has_token() or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))


def _has_token() -> bool:
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or Path(path).is_file()


def _token_mode(address: str, *, insecure: bool) -> dict[str, str]:
    """The variables to join with, once it is clear that the cluster answers and how it is protected."""
    named = os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address  # as Ray reads `auto`
    if named == "auto":
        return {}
    host, port = _split(named)
    try:
        socket.create_connection((host, port), _REACH_SECONDS).close()
    except OSError as error:
        allowed = f"the address of a running cluster; nothing answered within {_REACH_SECONDS:.0f} s ({error})"
        raise RefusedInput([Fault("--address", address, allowed)]) from error
    is_here = host in ("localhost", "127.0.0.1", "::1") or (address == "auto" and host in _own_addresses())
    if insecure or is_here:
        return {}
    if os.environ.get("RAY_AUTH_MODE") == "disabled" or not _has_token():
        allowed = "a cluster with token authentication: set RAY_AUTH_TOKEN_PATH, or pass --insecure"
        raise RefusedInput([Fault("--address", address, allowed)])
    return {"RAY_AUTH_MODE": "token"}


def _own_addresses() -> set[str]:
    return {one.address for of_one in psutil.net_if_addrs().values() for one in of_one}


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if "//" in host or not host or not port.isdigit():
        allowed = "`auto`, or `host:port` of the head node, as in `10.0.0.5:6379`"
        raise RefusedInput([Fault("--address", address, allowed)])
    return host.strip("[]"), int(port)


def _code_path() -> dict[str, str]:
    """The path that espalier was imported by, for nodes that share it and have nothing installed."""
    entries = [str(Path(entry).resolve()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return {"PYTHONPATH": os.pathsep.join(entries)} if entries else {}


def _disconnect() -> None:
    import ray

    ray.shutdown()


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """Ray leaves variables in this process (2.60: the token mode, its debugger); they go when it goes."""
    before = set(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - before:
            if name.startswith("RAY_") or name == "PYTHONBREAKPOINT":
                del os.environ[name]
