"""Check the cluster before workers start: enough resources of the asked kind, a shared storage, the same versions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray._private.state import available_resources_per_node  # private (2.60); the public one adds nodes up

from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import WorkersConfig
from espalier_cluster.node_checks import ask_nodes, storage_faults, version_faults

_OLDEST_RAY = (2, 54)  # before it, a web page could delete the jobs of a dashboard in the same browser
_ACCELERATOR = "accelerator_type:"


def check_cluster(workers: WorkersConfig, storage: Path, *, needed_bytes: int = 0) -> None:
    """Check the cluster that this process is connected to.

    Args:
        storage: folder that every node and this process must share; created if missing.
        needed_bytes: the most that the run occupies at one time.

    Raises:
        RefusedInput: all faults found.
    """
    faults = [*ray_faults(), *room_faults(workers, ray.nodes())]
    storage.mkdir(parents=True, exist_ok=True)
    reports = ask_nodes([node for node in ray.nodes() if node["Alive"]], storage)
    faults += [*storage_faults(storage, reports, needed_bytes=needed_bytes), *version_faults(reports)]
    if faults:
        raise RefusedInput(faults)


def room_faults(workers: WorkersConfig, nodes: Sequence[Mapping[str, Any]]) -> list[Fault]:
    """Faults to report when the workers do not fit on the nodes, each worker whole on one node; else empty.

    Args:
        nodes: as `ray.nodes()` lists them; dead ones do not count. Resources in use by other jobs count as free.
    """
    if any(node["Alive"] for node in nodes) and not suitable(workers, nodes):
        return list(_kind_faults(workers, [node for node in nodes if node["Alive"]]))
    alive = [node["Resources"] for node in suitable(workers, nodes)]
    gpus = int(sum(node.get("GPU", 0) for node in alive))
    cpus = int(sum(node.get("CPU", 0) for node in alive))
    fitting = sum(_num_fitting(node, workers) for node in alive)
    if fitting >= workers.fewest:
        return []
    if workers.gpus_each and not gpus:
        return [Fault("workers.gpus_each", workers.gpus_each, "0, because the cluster has no GPU")]
    each = f"{workers.cpus_each} CPU" + (f" and {workers.gpus_each} GPU" if workers.gpus_each else "")
    of_kind = " of that kind" if workers.labels or workers.accelerator else ""
    has = f"the cluster has {cpus} CPUs and {gpus} GPUs on {len(alive)} nodes{of_kind}, and each worker takes {each}"
    name = "count" if workers.min is None else "min"
    return [Fault(f"workers.{name}", workers.fewest, f"at most {fitting}: {has}")]


def room(workers: WorkersConfig) -> int:
    """How many such workers fit on the connected cluster when no other job uses it."""
    return sum(_num_fitting(node["Resources"], workers) for node in suitable(workers, ray.nodes()))


def free_room(workers: WorkersConfig) -> int:
    """How many such workers fit beside what is on the connected cluster now, each whole on one node."""
    free = available_resources_per_node()
    return sum(_num_fitting(free.get(node["NodeID"], {}), workers) for node in suitable(workers, ray.nodes()))


def suitable(workers: WorkersConfig, nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The nodes that are alive and have the labels and the type of accelerator that workers ask for."""
    return [node for node in nodes if node["Alive"] and _has_accelerator(node, workers) and _has_labels(node, workers)]


def able(workers: WorkersConfig, nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The nodes that a worker may come to: suitable, and large enough for one. A head without GPUs is none, often."""
    return [node for node in suitable(workers, nodes) if _num_fitting(node["Resources"], workers)]


def _num_fitting(resources: Mapping[str, float], workers: WorkersConfig) -> int:
    by_cpu = int(resources.get("CPU", 0) // workers.cpus_each)
    return min(by_cpu, int(resources.get("GPU", 0) // workers.gpus_each)) if workers.gpus_each else by_cpu


def ray_faults() -> Iterator[Fault]:
    """Faults of the version of Ray."""
    version = tuple(int(part) for part in ray.__version__.split(".")[:2])
    if version < _OLDEST_RAY:
        yield Fault("ray", ray.__version__, "2.54 or newer; older ones let web pages reach the cluster")


def _kind_faults(workers: WorkersConfig, nodes: Sequence[Mapping[str, Any]]) -> Iterator[Fault]:
    """Faults where no node has the labels and the accelerator: each that none has, or that none has all of them."""
    faults = []
    types = sorted({name[len(_ACCELERATOR) :] for node in nodes for name in node["Resources"] if _is_type(name)})
    if workers.accelerator and workers.accelerator not in types:
        has = f"a type that a node has: {', '.join(types)}" if types else "left out, as no node tells its type"
        faults.append(Fault("workers.accelerator", workers.accelerator, has))
    for name, wanted in workers.labels.items():
        if not any(_is_chosen(node.get("Labels", {}).get(name), wanted) for node in nodes):
            values = sorted({node["Labels"][name] for node in nodes if name in node.get("Labels", {})})
            has = f"what a node has: {', '.join(values)}" if values else "left out, as no node has it"
            faults.append(Fault(f"workers.labels.{name}", wanted, has))
    yield from faults or [Fault("workers.labels", workers.labels, "labels and accelerator that one node has together")]


def _is_type(resource: str) -> bool:
    return resource.startswith(_ACCELERATOR)


def _has_accelerator(node: Mapping[str, Any], workers: WorkersConfig) -> bool:
    return workers.accelerator is None or _ACCELERATOR + workers.accelerator in node["Resources"]


def _has_labels(node: Mapping[str, Any], workers: WorkersConfig) -> bool:
    has = node.get("Labels", {})
    return all(_is_chosen(has.get(name), wanted) for name, wanted in workers.labels.items())


def _is_chosen(value: str | None, wanted: str) -> bool:
    """Whether a node with this value of a label is one of those that `wanted` names; a node without it has no value."""
    negated, choice = wanted.startswith("!"), wanted.removeprefix("!")
    inside = re.fullmatch(r"in\((.*)\)", choice)
    values = [one.strip() for one in inside[1].split(",")] if inside else [choice]
    return (value in values) != negated
