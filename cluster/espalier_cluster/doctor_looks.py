"""What `espalier doctor` looks at on this machine. Nothing is changed; what is written for a measurement is removed."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import resource
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil
from packaging.utils import canonicalize_name

from espalier.config.faults import RefusedInput
from espalier_cluster.doctor_checks import (
    Line,
    judge_clock,
    judge_cuda,
    judge_disk,
    judge_head,
    judge_memory,
    judge_open_files,
    judge_python,
    judge_shared_memory,
    judge_token,
    judge_versions,
    judge_wandb,
)

_PACKAGE = "espalier-train"
_PROBE_BYTES = 64 * 2**20
_PROBE_SECONDS = 10.0
_BLOCK_BYTES = 2**22
_CUDA = re.compile(r"CUDA Version: +([0-9]+\.[0-9]+)")


@dataclass(frozen=True)
class DiskProbe:
    """A storage's speed and clock.

    Attributes:
        bytes_per_second: of a write that was synced.
        ahead_seconds: the storage's clock minus this machine's.
    """

    bytes_per_second: float
    ahead_seconds: float


def look(storage: Path, address: str | None, *, insecure: bool = False) -> Iterator[Line]:
    """All lines, the quick ones first.

    Args:
        storage: an existing folder, where some megabytes are written and removed.
        address: of a cluster whose version is compared; None: of none.
    """
    yield judge_python((int(platform.python_version_tuple()[0]), int(platform.python_version_tuple()[1])))
    yield from judge_versions(_installed(), metadata.requires(_PACKAGE) or ())
    yield judge_memory(psutil.virtual_memory().available)
    with contextlib.suppress(OSError):
        yield judge_shared_memory(shutil.disk_usage("/dev/shm").total)
    yield judge_open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))
    yield _token()
    yield _wandb()
    yield from _gpus()
    probe = probe_disk(storage)
    free = shutil.disk_usage(storage).free if storage.exists() else 0
    yield judge_disk(probe.bytes_per_second if probe else None, free, place=str(storage))
    yield judge_clock(probe.ahead_seconds if probe else None)
    if address is not None:
        yield _head(address, insecure=insecure)


def probe_disk(storage: Path) -> DiskProbe | None:
    """Write a file, for ten seconds at most, and remove it; None where nothing can be written."""
    path = storage / f".doctor-{secrets.token_hex(8)}"
    try:
        with path.open("xb", buffering=0) as file:
            before = time.time()
            file.write(b"\0")
            modified = os.fstat(file.fileno()).st_mtime
            after = time.time()
            block = os.urandom(_BLOCK_BYTES)  # nothing that a storage could pack
            began, written = time.monotonic(), 0
            while written < _PROBE_BYTES and time.monotonic() - began < _PROBE_SECONDS:
                written += file.write(block)
            os.fsync(file.fileno())
            seconds = time.monotonic() - began
    except OSError:
        return None
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return DiskProbe(written / seconds, _ahead(modified, before, after))


def _ahead(modified: float, before: float, after: float) -> float:
    """How far a file's time lies outside of the interval in which it was written; 0 inside."""
    return min(0.0, modified - before) + max(0.0, modified - after)


def _installed() -> dict[str, str]:
    return {canonicalize_name(one.name): one.version for one in metadata.distributions() if one.name}


def _token() -> Line:
    place = os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token")
    return judge_token(
        place,
        _mode(Path(place)),
        is_given=bool(os.environ.get("RAY_AUTH_TOKEN")),
        is_disabled=os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled",
    )


def _wandb() -> Line:
    netrc = Path(os.path.expanduser("~/.netrc"))
    try:
        names_wandb = "api.wandb.ai" in netrc.read_text(errors="replace")
    except OSError:
        names_wandb = False
    mode = _mode(netrc) if names_wandb else None
    return judge_wandb(in_environment=bool(os.environ.get("WANDB_API_KEY")), netrc_mode=mode)


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except OSError:
        return None


def _gpus() -> Iterator[Line]:
    """The driver's and torch's CUDA, and NCCL's version where there are GPUs."""
    import torch

    driver = _driver_cuda()
    num_gpus = torch.cuda.device_count() if driver is not None else 0
    yield judge_cuda(torch.version.cuda, driver, num_gpus)
    if num_gpus and torch.distributed.is_nccl_available():
        yield Line("ok", "nccl", ".".join(map(str, torch.cuda.nccl.version())))


def _driver_cuda() -> str | None:
    """The highest CUDA version that the driver takes; None without a driver."""
    try:
        told = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = _CUDA.search(told)
    return found[1] if found else None


def _head(address: str, *, insecure: bool) -> Line:
    from espalier_cluster.jobs_address import connect

    ours = metadata.version("ray")
    try:
        return judge_head(address, connect(address, insecure=insecure).ray_version, ours)
    except RefusedInput as refused:
        return judge_head(address, None, ours, refusal=str(refused.faults[0]))
