"""Ask nodes of the cluster, by a small task on each: storage, files, models, versions, memory."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import espalier
from espalier.config.faults import Fault, RefusedInput
from espalier.storage.contract import unfinished
from espalier_cluster.local_resources import gpu_bytes

_ANSWER_SECONDS = 60.0
_PACKAGES = ("torch", "transformers", "deepspeed", "ray", "safetensors")
_CGROUP = Path("/sys/fs/cgroup/memory.max")
_MANY = 3

Files = Mapping[str, Sequence[tuple[str, int]]]
"""Setting -> the files that it names: path, and size in bytes as the driver sees it."""


@dataclass(frozen=True)
class NodeReport:
    """The findings of one node.

    Attributes:
        trouble: why the node cannot use the storage; empty when it can.
        free_bytes: free space on the storage, as the node sees it.
        versions: package -> version; empty when espalier cannot run there.
        unlike: setting -> which of its files are not there as the driver sees them, in words.
        memory_bytes: of the node, or of the container that its tasks run in.
        gpu_bytes: memory of each GPU.
    """

    node: str
    trouble: str
    free_bytes: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    unlike: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int = 0
    gpu_bytes: tuple[int, ...] = ()


def ask_nodes(
    nodes: Sequence[Mapping[str, Any]], place: Path, *, files: Files | None = None, mode: int = 0o700
) -> list[NodeReport]:
    """Ask each node; takes a minute at most.

    Args:
        nodes: as `ray.nodes()` lists them.
        place: folder on the storage, in which one is made with `mode` for this question, and removed after it.
        files: to be compared with those of this process.

    Raises:
        RefusedInput: this process cannot write to the storage.
    """
    folder = place / unfinished(".preflight")
    token = secrets.token_hex(8)
    try:
        folder.mkdir(mode=mode)
    except OSError as error:
        raise RefusedInput([Fault("storage", str(place), f"a folder that can be written to ({error})")]) from None
    try:
        (folder / "driver").write_text(token)
        wanted = ray.put(dict(files or {}))
        asked = {_ask(node["NodeID"], folder, token, wanted): node_name(node) for node in nodes}
        answered, unanswered = ray.wait([*asked], num_returns=len(asked), timeout=_ANSWER_SECONDS)
        reports = [_read(answer, asked[answer], folder, token) for answer in answered]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for one in unanswered:
        ray.cancel(one, force=True)
    late = f"it did not answer within {_ANSWER_SECONDS:.0f} s"
    return reports + [NodeReport(asked[answer], trouble=late) for answer in unanswered]


def node_name(node: Mapping[str, Any]) -> str:
    """A node in words: `host (address:port)`."""
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}:{node['NodeManagerPort']})"


def storage_faults(storage: Path, reports: Sequence[NodeReport], *, needed_bytes: int) -> Iterator[Fault]:
    for report in reports:
        if report.trouble:
            wanted = f"a folder that every node shares; node {report.node} does not use it: {report.trouble}"
            yield Fault("storage", str(storage), wanted)
        elif report.free_bytes < needed_bytes:
            room = f"{report.free_bytes / 1e9:.1f} GB, as node {report.node} sees it"
            yield Fault("storage", str(storage), f"a place with {needed_bytes / 1e9:.1f} GB free; it has {room}")
            return  # all nodes see the same storage


def version_faults(reports: Sequence[NodeReport]) -> Iterator[Fault]:
    for package in ("python", "espalier", *_PACKAGES):
        nodes_of: dict[str, list[str]] = {}
        for report in reports:
            if package in report.versions:
                nodes_of.setdefault(report.versions[package], []).append(report.node)
        if len(nodes_of) > 1:
            having = "; ".join(f"{version} on {', '.join(nodes)}" for version, nodes in nodes_of.items())
            yield Fault(f"versions.{package}", having, "one version on every node; use one image for all")


def file_faults(files: Files, reports: Sequence[NodeReport]) -> Iterator[Fault]:
    """A fault for each setting whose files are not the same on all nodes."""
    for setting in files:
        unlike = {report.node: report.unlike[setting] for report in reports if setting in report.unlike}
        if unlike:
            node, found = next(iter(unlike.items()))
            more = f", and {len(unlike) - 1} more nodes" if len(unlike) > 1 else ""
            given = f"names {found} on node {node}{more}"
            yield Fault(setting, None, "files that each node can read, as the driver's machine can", given=given)


def _ask(node_id: str, folder: Path, token: str, files: ray.ObjectRef) -> ray.ObjectRef:
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    task = ray.remote(_look).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
    return task.remote(str(folder), node_id, token, files)


def _look(folder: str, node_id: str, token: str, files: Files) -> NodeReport:
    """Runs on the node: read the driver's file, write one for it, write and remove another one."""
    try:
        found = (Path(folder) / "driver").read_text()
        (Path(folder) / f"{node_id}.part").write_text(token)
        os.rename(Path(folder) / f"{node_id}.part", Path(folder) / node_id)
        (Path(folder) / f"{node_id}.gone").touch()
        os.unlink(Path(folder) / f"{node_id}.gone")
    except OSError as error:
        return NodeReport(node_id, trouble=f"{error.strerror or error}", versions=own_versions())
    trouble = "" if found == token else "it sees other files there"
    return NodeReport(
        node_id,
        trouble,
        free_bytes=shutil.disk_usage(folder).free,
        versions=own_versions(),
        unlike={setting: unlike for setting, wanted in files.items() if (unlike := _unlike(wanted))},
        memory_bytes=_memory_bytes(),
        gpu_bytes=tuple(gpu_bytes()),
    )


def _read(answer: ray.ObjectRef, name: str, folder: Path, token: str) -> NodeReport:
    try:
        report: NodeReport = ray.get(answer)
    except RayError as error:
        last = str(error).strip().splitlines()[-1]
        remedy = f"install espalier {espalier.__version__} there, or use one image for all nodes"
        return NodeReport(name, trouble=f"it cannot run espalier ({last}); {remedy}")
    if not report.trouble and not _says(folder / report.node, token):
        return replace(report, node=name, trouble="what it writes there does not arrive here")
    return replace(report, node=name)


def _says(path: Path, token: str) -> bool:
    try:
        return path.read_text() == token
    except (OSError, UnicodeDecodeError):
        return False


def _unlike(wanted: Sequence[tuple[str, int]]) -> str:
    """Which files are not on this machine as they should be; empty when all are."""
    found = []
    for path, size in wanted:
        try:
            there = os.stat(path).st_size
        except OSError as error:
            found.append(f"{path} ({error.strerror})")
            continue
        if there != size:
            found.append(f"{path} ({there} bytes instead of {size})")
        elif not os.access(path, os.R_OK):
            found.append(f"{path} (which may not be read)")
    shown = ", ".join(found[:_MANY])
    return f"{shown} and {len(found) - _MANY} more" if len(found) > _MANY else shown


def own_versions() -> dict[str, str]:
    """Package -> version on this machine; `missing` for what is not there."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return {"python": platform.python_version(), "espalier": espalier.__version__, **found}


def _memory_bytes() -> int:
    total = psutil.virtual_memory().total
    try:
        limit = _CGROUP.read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total


def files_named(patterns: Mapping[str, Sequence[str]], *, most: int = 10_000) -> Files:
    """The files of each setting with their sizes; of very many an evenly spaced choice, as each is asked for."""
    named = {}
    for setting, paths in patterns.items():
        step = max(1, -(-len(paths) // most))
        named[setting] = [(path, os.stat(path).st_size) for path in paths[::step]]
    return named
