"""Who holds the resources of the cluster that a run waits for, from the placement groups and jobs that Ray lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import ray
from ray._private.state import available_resources_per_node, state  # private (2.60): public ones need the dashboard
from ray.core.generated import gcs_pb2
from ray.util.placement_group import placement_group_table

from espalier.jobs.job import WorkersConfig
from espalier.tracking.number_format import plain_text
from espalier_cluster.local_cluster import RUN
from espalier_cluster.preflight import free_room, room_faults, suitable

_LONGEST_NAME = 80
_MANY = 4


def who_is_waited_for(workers: WorkersConfig) -> str:
    """What workers wait for that fit on the connected cluster: `busy: run slim holds 8 GPUs, ...`.

    Empty when they have room or need not wait for it, or when the cluster is too small, however long they wait.
    """
    if room_faults(workers, ray.nodes()) or _has_room() or free_room(workers) >= workers.fewest:
        return ""
    what = "GPU" if workers.gpus_each else "CPU"
    nodes = suitable(workers, ray.nodes())
    free, total = _amounts(workers, nodes, what)
    holders = _holders({node["NodeID"] for node in nodes}, what)
    told = [f"{name} holds {_counted(amount, what)}" for name, amount in holders.most_common(_MANY)]
    if (rest := total - free - sum(amount for _, amount in holders.most_common(_MANY))) >= 1:
        told.append(f"others hold {_counted(rest, what)}")
    return (
        f"busy: {', '.join(told) or 'other resources of its nodes are taken'}; {free:g} of {_counted(total, what)} free"
    )


def _has_room() -> bool:
    """Whether this process has a placement group, whose workers may still be starting."""
    own = ray.get_runtime_context().get_job_id()
    groups = placement_group_table().items()
    return any(place.endswith(own) and group["state"] == "CREATED" for place, group in groups)


def _amounts(workers: WorkersConfig, nodes: list[Mapping[str, Any]], what: str) -> tuple[float, float]:
    """How much of a resource is free on the nodes, and how much there is."""
    free = available_resources_per_node()
    total = sum(node["Resources"].get(what, 0) for node in nodes)
    return sum(free.get(node["NodeID"], {}).get(what, 0) for node in nodes), total


def _holders(nodes: set[str], what: str) -> Counter[str]:
    """Holder in words -> how much of a resource its placement groups hold on the nodes."""
    length, names = len(ray.get_runtime_context().get_job_id()), _names_of_jobs()
    held: Counter[str] = Counter()
    for place, group in placement_group_table().items():
        job = place[-length:]  # a placement group's id ends with the id of the job that made it
        if group["state"] != "CREATED":
            continue
        for number, bundle in group["bundles"].items():
            if group["bundles_to_node_id"].get(number) in nodes and (amount := bundle.get(what, 0)):
                held[names.get(job, f"Ray job {job}")] += amount
    return held


def _names_of_jobs() -> dict[str, str]:
    """Ray's id of a job -> the run whose driver it is, in words. The names are text of other users."""
    accessor = state._connect_and_get_accessor()
    table = accessor.get_job_table(skip_submission_job_info_field=True, skip_is_running_tasks_field=True)
    names = {}
    for entry in map(gcs_pb2.JobTableData.FromString, table):  # type: ignore[attr-defined]  # made by protoc
        run = entry.config.metadata.get(RUN, "")
        if run:
            names[entry.job_id.hex()] = f"run {plain_text(run)[:_LONGEST_NAME]}"
    return names


def _counted(amount: float, what: str) -> str:
    return f"{amount:g} {what}{'s' * (amount != 1)}"
