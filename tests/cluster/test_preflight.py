"""Checks of resources and versions, on given reports of nodes; test_two_nodes.py asks real nodes."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from espalier.jobs.job import WorkersConfig
from espalier_cluster.preflight import NodeReport, room_faults, storage_faults, version_faults


def node(alive: bool = True, **resources: float) -> Mapping[str, object]:
    return {"Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("workers", "nodes", "room"),
    [
        (WorkersConfig(count=8, gpus_each=1), [node(CPU=64, GPU=4)], 4),
        (WorkersConfig(count=3, cpus_each=2), [node(CPU=3), node(CPU=3)], 2),
        (WorkersConfig(count=2), [node(CPU=1), node(alive=False, CPU=7)], 1),
        (WorkersConfig(count=5, cpus_each=2, gpus_each=1), [node(CPU=7, GPU=5)], 3),
    ],
)
def test_a_lack_of_resources_is_reported_with_what_the_cluster_has(
    workers: WorkersConfig, nodes: list, room: int
) -> None:
    (fault,) = room_faults(workers, nodes)
    assert fault.path == "workers.count" and fault.value == workers.count
    assert f"at most {room}:" in fault.allowed


def test_exactly_enough_room_is_enough() -> None:
    assert room_faults(WorkersConfig(count=5, cpus_each=3), [node(CPU=7), node(CPU=9)]) == []


def test_gpus_asked_for_where_there_is_none_are_named() -> None:
    (fault,) = room_faults(WorkersConfig(gpus_each=1), [node(CPU=11)])
    assert fault.path == "workers.gpus_each" and "no GPU" in fault.allowed


def test_versions_that_differ_are_named_with_their_nodes() -> None:
    reports = [NodeReport(name, "", 1, {"torch": version}) for name, version in [("a", "2.11"), ("b", "2.13")]]
    (fault,) = version_faults(reports)
    assert fault.path == "versions.torch" and "2.11 on a" in str(fault.value)
    assert list(version_faults(reports[:1] * 3)) == []


def test_a_full_storage_is_one_fault_however_many_nodes_see_it() -> None:
    reports = [NodeReport(name, "", 5 * 10**9) for name in "abc"]
    (fault,) = storage_faults(Path("/shared"), reports, needed_bytes=7 * 10**9)
    assert "7.0 GB" in fault.allowed and "5.0 GB" in fault.allowed
    assert list(storage_faults(Path("/shared"), reports, needed_bytes=5 * 10**9)) == []
