"""Start a local Ray cluster for the time of a run, or connect to a running one."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import WorkersConfig
from espalier_cluster.environment import default_variables, override_variables
from espalier_cluster.held_folders import make_folder, remove, sweep
from espalier_cluster.joining import forget_token, require_protected, resolve

# Ray is imported inside the functions, because it reads these variables on import.
_RAY = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a worker that asked for no GPU sees none
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "5",  # ranks that wait for a lost one never leave
}
_LOCAL = {
    "AUTOSCALER_METRIC_PORT": "-1",  # no such port: no server of metrics
    "RAY_enable_metrics_collection": "false",
    "RAY_prestart_worker_first_driver": "0",  # our workers need another environment than prestarted processes
}
_CHECKS_A_SECOND = 256  # of workers by Ray Train, all by one process of the driver's node
_STORE_BYTES = 256 * 2**20  # for orders and results; tensors never travel through Ray
_END_SECONDS = 5.0

FOLDER = "ESPALIER_CLUSTER_FOLDER"
"""Variable with the folder of a local cluster, for its workers; they hold it (`held_folders`)."""


RUN = "run"
"""Key of a Ray job's metadata with the name of the run whose driver it is; others on the cluster can read it."""


@contextlib.contextmanager
def cluster(
    workers: WorkersConfig,
    *,
    address: str | None = None,
    insecure: bool = False,
    verbose: bool = False,
    run: str = "",
) -> Iterator[None]:
    """Connect to Ray inside the block. A cluster that was started here is ended after it, and its files removed.

    Args:
        address: `host:port` of a running cluster, or `auto` for the one on this machine; None starts one.
        insecure: accept a cluster that requires no token.
        verbose: let Ray forward the output of all its processes to this terminal.
        run: name of the run that is driven, by which others see who holds what on a cluster.

    Raises:
        RefusedInput: the cluster cannot be reached or joined, or requires no token.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(forget_token)  # runs last, when the variables are restored
        stack.enter_context(_environment_kept())
        variables = _RAY | _health_checks(workers.count)
        stack.enter_context(default_variables(variables))
        access = require_access(address, insecure=insecure)
        if address is None:
            stack.enter_context(default_variables(_LOCAL))
            folder = stack.enter_context(_folder())
            stack.enter_context(override_variables(access | _own_token(folder) | {FOLDER: str(folder)}))
            options = _local_options(workers, folder)
        else:
            stack.enter_context(override_variables(access))
            options = {"address": resolve(address), "runtime_env": {"env_vars": {**variables, **_code_path()}}}
        _connect(options, verbose=verbose, run=run)
        try:
            yield
        finally:
            _disconnect()


def _health_checks(num_workers: int) -> dict[str, str]:
    """How often Ray Train looks after each worker, which is how soon a lost one is noticed; its own default is 2 s."""
    return {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(max(0.25, num_workers / _CHECKS_A_SECOND))}


def require_access(address: str | None, *, insecure: bool) -> dict[str, str | None]:
    """Check that the cluster requires a token; returns Ray's variables for authentication.

    Raises:
        RefusedInput: as `cluster`.
    """
    if address is not None:
        return dict(require_protected(resolve(address), insecure=insecure))
    if os.environ.get("RAY_AUTH_MODE", "token").lower() == "token":
        return {"RAY_AUTH_MODE": "token"}
    if insecure:
        return {}
    mode = os.environ["RAY_AUTH_MODE"]
    allowed = "`token` or no such variable, as others on this machine could run code as you; or pass --insecure"
    raise RefusedInput([Fault("RAY_AUTH_MODE", mode, allowed)])


def _connect(options: dict[str, Any], *, verbose: bool, run: str) -> None:
    import ray
    from ray.job_config import JobConfig

    level = logging.INFO if verbose else logging.ERROR
    on_termination = signal.getsignal(signal.SIGTERM)
    forget_token()
    try:
        with _hang_ups_blocked(), _few_listeners(options["address"] == "local"):
            named = JobConfig(metadata={RUN: run} if run else {})
            ray.init(**options, log_to_driver=verbose, logging_level=level, job_config=named)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if options["address"] == "local":
            raise
        allowed = f"a cluster that lets this process in; run on one of its nodes ({error})"
        raise RefusedInput([Fault("--address", options["address"], allowed)]) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_termination)  # Ray replaces the handler (2.60)


@contextlib.contextmanager
def _few_listeners(is_local: bool) -> Iterator[None]:
    """Make the processes of a local cluster that starts inside the block listen on 127.0.0.1 only, and no more than
    a run needs: no Jobs server and no agent with ports of its own.

    Ray uses that address for a node only on platforms that it believes to support no cluster, and leaves the agent's
    servers out only where their libraries are missing (2.60).
    """
    from ray._private import ray_constants, utils

    before = ray_constants.ENABLE_RAY_CLUSTER, utils.get_dashboard_dependency_error
    if is_local:
        ray_constants.ENABLE_RAY_CLUSTER = False
        utils.get_dashboard_dependency_error = lambda: ImportError("not needed here")
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER, utils.get_dashboard_dependency_error = before


@contextlib.contextmanager
def _hang_ups_blocked() -> Iterator[None]:
    """Block SIGHUP for processes that start inside the block, as Ray itself does with SIGINT.

    A hang-up goes to all processes of a terminal, and Ray's are needed until the driver has stopped in order.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _local_options(workers: WorkersConfig, folder: Path) -> dict[str, Any]:
    return {
        # What the job asks for: a small machine runs it slowly rather than never. GPUs are what Ray finds.
        "address": "local",  # whatever RAY_ADDRESS says
        "num_cpus": workers.count * workers.cpus_each + 1,
        "object_store_memory": _STORE_BYTES,
        "include_dashboard": False,
        "_temp_dir": str(folder / "ray"),  # which Ray opens to everybody (2.60)
    }


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """For this cluster alone; and away with those of clusters that were killed."""
    sweep()
    folder = make_folder()
    try:
        yield folder
    finally:
        remove(folder, patience_seconds=_END_SECONDS)


def _own_token(folder: Path) -> dict[str, str | None]:
    """A token that is this cluster's alone. Ray would take the one of the home, which other clusters share."""
    path = folder / "token"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    return {"RAY_AUTH_TOKEN": None, "RAY_AUTH_TOKEN_PATH": str(path)}


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
