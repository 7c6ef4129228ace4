"""Check the cluster before workers start: enough resources, a shared storage, the same versions on all nodes."""

from __future__ import annotations

import platform
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import ray
from ray._private.state import available_resources_per_node  # private (2.60); the public one adds nodes up
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import espalier
from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import WorkersConfig

_OLDEST_RAY = (2, 54)  # before it, a web page could delete the jobs of a dashboard in the same browser
_ANSWER_SECONDS = 60.0
_PACKAGES = ("torch", "transformers", "deepspeed", "ray", "safetensors")


@dataclass(frozen=True)
class NodeReport:
    """The findings of one node.

    Attributes:
        trouble: why the node cannot use the storage; empty when it can.
        free_bytes: free space on the storage, as the node sees it.
        versions: package -> version.
    """

    node: str
    trouble: str
    free_bytes: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)


def check_cluster(workers: WorkersConfig, storage: Path, *, needed_bytes: int = 0) -> None:
    """Check the cluster that this process is connected to.

    Args:
        storage: folder that every node and this process must share; created if missing.
        needed_bytes: the most that the run occupies at one time.

    Raises:
        RefusedInput: all faults found.
    """
    faults = [*_ray_faults(), *room_faults(workers, ray.nodes())]
    storage.mkdir(parents=True, exist_ok=True)
    reports = _ask_nodes(storage)
    faults += [*storage_faults(storage, reports, needed_bytes=needed_bytes), *version_faults(reports)]
    if faults:
        raise RefusedInput(faults)


def room_faults(workers: WorkersConfig, nodes: Sequence[Mapping[str, Any]]) -> list[Fault]:
    """The fault to report when the workers do not fit on the nodes, each worker whole on one node; else empty.

    Args:
        nodes: as `ray.nodes()` lists them; dead ones do not count. Resources in use by other jobs count as free.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in alive))
    cpus = int(sum(node.get("CPU", 0) for node in alive))
    fitting = sum(_num_fitting(node, workers) for node in alive)
    if fitting >= workers.fewest:
        return []
    if workers.gpus_each and not gpus:
        return [Fault("workers.gpus_each", workers.gpus_each, "0, because the cluster has no GPU")]
    each = f"{workers.cpus_each} CPU" + (f" and {workers.gpus_each} GPU" if workers.gpus_each else "")
    has = f"the cluster has {cpus} CPUs and {gpus} GPUs on {len(alive)} nodes, and each worker takes {each}"
    name = "count" if workers.min is None else "min"
    return [Fault(f"workers.{name}", workers.fewest, f"at most {fitting}: {has}")]


def room(workers: WorkersConfig) -> int:
    """How many such workers fit on the connected cluster when no other job uses it."""
    return sum(_num_fitting(node["Resources"], workers) for node in ray.nodes() if node["Alive"])


def free_room(workers: WorkersConfig) -> int:
    """How many such workers fit beside what is on the connected cluster now, each whole on one node."""
    free = available_resources_per_node()
    return sum(_num_fitting(node, workers) for node in free.values())


def _num_fitting(resources: Mapping[str, float], workers: WorkersConfig) -> int:
    by_cpu = int(resources.get("CPU", 0) // workers.cpus_each)
    return min(by_cpu, int(resources.get("GPU", 0) // workers.gpus_each)) if workers.gpus_each else by_cpu


def _ray_faults() -> Iterator[Fault]:
    version = tuple(int(part) for part in ray.__version__.split(".")[:2])
    if version < _OLDEST_RAY:
        yield Fault("ray", ray.__version__, "2.54 or newer; older ones let web pages reach the cluster")


def _ask_nodes(storage: Path) -> list[NodeReport]:
    folder = storage / f".preflight-{secrets.token_hex(8)}"
    folder.mkdir()
    token = secrets.token_hex(8)
    (folder / "driver").write_text(token)
    asked = {_ask(node["NodeID"], folder, token): _name(node) for node in ray.nodes() if node["Alive"]}
    try:
        answered, unanswered = ray.wait([*asked], num_returns=len(asked), timeout=_ANSWER_SECONDS)
        reports = [_read(answer, asked[answer], folder) for answer in answered]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    late = f"it did not answer within {_ANSWER_SECONDS:.0f} s"
    return reports + [NodeReport(asked[answer], trouble=late) for answer in unanswered]


def _ask(node_id: str, folder: Path, token: str) -> ray.ObjectRef:
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(_look).options(num_cpus=0, scheduling_strategy=there).remote(str(folder), node_id, token)


def _look(folder: str, node_id: str, token: str) -> NodeReport:
    """Check the storage from a node: read the driver's file and write one for it. Runs on the node."""
    try:
        found = (Path(folder) / "driver").read_text()
        (Path(folder) / node_id).write_text(token)
    except OSError as error:
        return NodeReport(node_id, trouble=f"{error.strerror or error}")
    trouble = "" if found == token else "it sees other files there"
    return NodeReport(node_id, trouble, shutil.disk_usage(folder).free, _versions())


def _read(answer: ray.ObjectRef, name: str, folder: Path) -> NodeReport:
    try:
        report: NodeReport = ray.get(answer)
    except RayError as error:
        return NodeReport(name, trouble=f"it cannot run espalier: {str(error).strip().splitlines()[-1]}")
    if not report.trouble and not (folder / report.node).is_file():
        return replace(report, node=name, trouble="what it writes there does not arrive here")
    return replace(report, node=name)


def _versions() -> dict[str, str]:
    found = {name: metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "espalier": espalier.__version__, **found}


def _name(node: Mapping[str, Any]) -> str:
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
