"""The judgements of `espalier doctor`: what was found on a machine -> a line each, in words, with what to do."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from espalier.tracking.number_format import bytes_text

Level = Literal["ok", "warn", "bad"]

CLASHES = (
    ("transformers", "==5.1.0", "it is broken with DeepSpeed"),
    ("transformers", "==5.6.0", "its attention path is broken"),
    ("transformers", "<5.3", "it runs code that a model's configuration names"),
    ("deepspeed", "==0.18.3", "it scales gradients twice when they are accumulated"),
    ("deepspeed", "<0.19.3", "partial tuning fails at level parameters where activations are computed again"),
    ("torch", "<2.10", "files of weights can run code in it"),
    ("ray", "<2.54", "web pages can reach its dashboard through a browser"),
    ("ray", ">=2.61", "it asks every cluster for a token, which espalier was not tested with"),
)
"""package, versions, what is wrong with them."""

_GIB = 2**30
_STATE_BYTES = 12e9  # float32 masters and both moments of a billion parameters


@dataclass(frozen=True)
class Line:
    """One finding.

    Attributes:
        text: what was found.
        remedy: what to do; empty when all is well.
    """

    level: Level
    name: str
    text: str
    remedy: str = ""


def judge_versions(found: Mapping[str, str], requirements: Sequence[str]) -> Iterator[Line]:
    """A line for each package that is missing, outside its declared range or known to clash, and one for all others.

    Args:
        found: package -> version, names in lower case with dashes.
        requirements: as `importlib.metadata.requires` gives them; extras are left out.
    """
    right = []
    for text in requirements:
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        version = found.get(canonicalize_name(needed.name))
        why = next((why for name, bad, why in CLASHES if name == needed.name and _is_in(version, bad)), "")
        remedy = f"pip install '{needed.name}{needed.specifier}'"
        if version is None:
            yield Line("bad", needed.name, "is not installed", remedy)
        elif why:
            yield Line("bad", needed.name, f"{version}: {why}", remedy)
        elif not needed.specifier.contains(version, prereleases=True):
            yield Line("bad", needed.name, f"{version} is outside of {needed.specifier}", remedy)
        else:
            right.append(f"{needed.name} {version}")
    if right:
        yield Line("ok", "packages", ", ".join(right))


def judge_python(version: tuple[int, int]) -> Line:
    text = ".".join(map(str, version))
    return Line("ok", "python", text) if version >= (3, 11) else Line("bad", "python", text, "use Python 3.11 or newer")


def judge_cuda(built: str | None, driver: str | None, num_gpus: int) -> Line:
    """Whether torch can use the GPUs.

    Args:
        built: CUDA that torch was built for, as `13.0`; None for a build without.
        driver: the highest CUDA that the driver takes; None where there is no driver.
    """
    if driver is None:
        return Line("ok", "cuda", "no NVIDIA driver here: jobs with `workers.gpus_each: 0` run")
    if built is None:
        remedy = "install torch from the index of a CUDA version, such as cu130"
        return Line("bad", "cuda", "torch was built without CUDA, and this machine has a driver", remedy)
    if int(built.partition(".")[0]) > int(driver.partition(".")[0]):
        remedy = f"a driver for CUDA {built}, or torch for CUDA {driver}"
        return Line("bad", "cuda", f"torch was built for CUDA {built}, the driver takes {driver} at most", remedy)
    if not num_gpus:
        return Line("bad", "cuda", "there is a driver, but no GPU can be seen", "look at CUDA_VISIBLE_DEVICES")
    return Line("ok", "cuda", f"torch for CUDA {built}, driver for {driver}, {num_gpus} GPUs")


def judge_disk(bytes_per_second: float | None, free_bytes: int, *, place: str) -> Line:
    """The storage's speed, as a synced write of some megabytes has shown it; None: it cannot be written to."""
    if bytes_per_second is None:
        return Line("bad", "storage", f"{place} cannot be written to", "give --storage a folder that you can write to")
    save = _STATE_BYTES / bytes_per_second
    text = f"{place} takes {bytes_per_second / 1e6:.0f} MB/s, with {bytes_text(free_bytes)} free"
    if free_bytes < _GIB:
        return Line("bad", "storage", text, "make room")
    if bytes_per_second < 100e6:
        remedy = f"a save takes {save:.0f} s per billion parameters: use a faster storage, or save less often"
        return Line("warn", "storage", text, remedy)
    return Line("ok", "storage", text)


def judge_clock(ahead_seconds: float | None) -> Line:
    """The clock of the storage against this machine's; locks and heartbeats are compared between hosts."""
    if ahead_seconds is None:
        return Line("warn", "clock", "could not be compared with the storage's", "give --storage a writable folder")
    apart, remedy = abs(ahead_seconds), "set this machine's clock, or the file server's, by NTP"
    text = f"{apart:.1f} s {'behind' if ahead_seconds > 0 else 'ahead of'} the storage's"
    if apart > 30:
        return Line("bad", "clock", text, remedy)
    return Line("warn", "clock", text, remedy) if apart > 2 else Line("ok", "clock", "agrees with the storage's")


def judge_shared_memory(total_bytes: int) -> Line:
    """The size of /dev/shm, through which NCCL and Ray pass data between processes."""
    text = f"/dev/shm has {bytes_text(total_bytes)}"
    remedy = "give a container --shm-size=8g, or a pod an emptyDir of medium Memory at /dev/shm"
    if total_bytes < _GIB // 4:
        return Line("bad", "shared memory", text, remedy)
    return Line("warn", "shared memory", text, remedy) if total_bytes < _GIB else Line("ok", "shared memory", text)


def judge_open_files(soft: int, hard: int) -> Line:
    text = f"{soft} at once"
    if soft >= 4096 or soft < 0:
        return Line("ok", "open files", text if soft >= 0 else "any number at once")
    remedy = f"ulimit -n {min(65536, hard) if hard > 0 else 65536}"
    return Line("bad" if soft < 1024 else "warn", "open files", text, remedy)


def judge_memory(available_bytes: int) -> Line:
    text = f"{bytes_text(available_bytes)} free"
    if available_bytes >= 4 * _GIB:
        return Line("ok", "memory", text)
    remedy = "a worker takes 1 GiB beside its model, and a local cluster another one: end other programs"
    return Line("bad" if available_bytes < _GIB else "warn", "memory", text, remedy)


def judge_token(place: str, mode: int | None, *, is_given: bool, is_disabled: bool) -> Line:
    """Ray's token, of which only the place and the mode are looked at.

    Args:
        mode: of its file; None where there is none.
        is_given: RAY_AUTH_TOKEN is set.
        is_disabled: RAY_AUTH_MODE is `disabled`.
    """
    if is_disabled:
        return Line("bad", "token", "RAY_AUTH_MODE=disabled: whoever reaches a port runs code as you", "unset it")
    if mode is not None and stat.S_IMODE(mode) & 0o077:
        return Line("bad", "token", f"{place} can be read by others", f"chmod 600 {place}")
    if is_given:
        return Line("ok", "token", "in RAY_AUTH_TOKEN")
    if mode is None:
        remedy = "for a cluster put its token there, or set RAY_AUTH_TOKEN_PATH; local runs need none"
        return Line("warn", "token", f"none at {place}", remedy)
    return Line("ok", "token", f"{place}, for you alone")


def judge_wandb(*, in_environment: bool, netrc_mode: int | None) -> Line:
    """Whether a key is there, and who else can read it.

    Args:
        netrc_mode: of ~/.netrc, when it names W&B's host.
    """
    if netrc_mode is not None and stat.S_IMODE(netrc_mode) & 0o077:
        return Line("bad", "wandb key", "~/.netrc can be read by others", "chmod 600 ~/.netrc")
    if in_environment or netrc_mode is not None:
        return Line("ok", "wandb key", "in WANDB_API_KEY" if in_environment else "in ~/.netrc")
    return Line("warn", "wandb key", "none: runs are kept offline", "`wandb login`, or set WANDB_API_KEY")


def judge_head(address: str, theirs: str | None, ours: str, *, refusal: str = "") -> Line:
    """The cluster that `--address` names.

    Args:
        theirs: its version of Ray; None: it was not reached, for the reason in `refusal`.
    """
    if theirs is None:
        return Line("bad", "cluster", refusal, "start it, or give another --address")
    if theirs != ours:
        return Line("bad", "cluster", f"Ray {theirs} at {address}, {ours} here", "install one version on both sides")
    return Line("ok", "cluster", f"Ray {theirs} at {address}, which asks for the token")


def _is_in(version: str | None, specifier: str) -> bool:
    return version is not None and SpecifierSet(specifier).contains(version, prereleases=True)
