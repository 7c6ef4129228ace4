"""Checks of resources and versions, on given reports of nodes; test_two_nodes.py asks real nodes."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import WorkersConfig
from espalier.planning.memory import WorkerMemory
from espalier.stages.findings import Findings
from espalier_cluster.cluster_checks import _note_memory
from espalier_cluster.node_checks import (
    NodeReport,
    _unlike,
    file_faults,
    files_named,
    storage_faults,
    version_faults,
)
from espalier_cluster.preflight import room_faults, suitable
from espalier_cluster.preflight_table import Preflight, show_checks
from espalier_cluster.terminal import open_terminal
from espalier_cluster.train import _scaling_config


def node(alive: bool = True, labels: Mapping[str, str] | None = None, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Labels": labels or {}, "Resources": resources}


def of_type(name: str, **resources: float) -> dict[str, Any]:
    return node(**resources) | {"Resources": {**resources, f"accelerator_type:{name}": 1.0}}


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


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [("blue", "b"), ("!blue", "rn"), ("in(blue, red)", "br"), ("!in(blue,red)", "n"), ("green", "")],
)
def test_labels_choose_nodes_as_ray_does(wanted: str, chosen: str) -> None:
    nodes = {"b": node(labels={"team": "blue"}, CPU=1), "r": node(labels={"team": "red"}, CPU=1), "n": node(CPU=1)}
    workers = WorkersConfig(labels={"team": wanted})
    assert [name for name, one in nodes.items() if suitable(workers, [one])] == list(chosen)


def test_a_label_or_a_type_of_gpu_that_no_node_has_is_named_with_what_there_is() -> None:
    nodes = [node(labels={"team": "blue"}, CPU=8), of_type("L4", CPU=8, GPU=2), node(False, {"team": "red"}, CPU=8)]
    (fault,) = room_faults(WorkersConfig(labels={"team": "red"}), nodes)
    assert fault.path == "workers.labels.team" and fault.allowed == "what a node has: blue"
    (fault,) = room_faults(WorkersConfig(labels={"zone": "a"}), nodes)
    assert fault.allowed == "left out, as no node has it"
    (fault,) = room_faults(WorkersConfig(gpus_each=1, accelerator="H100"), nodes)
    assert fault.path == "workers.accelerator" and fault.allowed == "a type that a node has: L4"
    (fault,) = room_faults(WorkersConfig(gpus_each=1, accelerator="L4", labels={"team": "blue"}), nodes)
    assert "together" in fault.allowed
    assert room_faults(WorkersConfig(count=2, gpus_each=1, accelerator="L4"), nodes) == []
    (fault,) = room_faults(WorkersConfig(count=3, gpus_each=1, accelerator="L4"), nodes)
    assert "at most 2" in fault.allowed and "on 1 nodes of that kind" in fault.allowed


def test_workers_are_packed_onto_nodes_of_the_kind_that_is_asked_for() -> None:
    plain = _scaling_config(WorkersConfig(count=3))
    assert (plain.placement_strategy, plain.label_selector, plain.accelerator_type) == ("PACK", None, None)
    chosen = _scaling_config(WorkersConfig(gpus_each=1, accelerator="L4", labels={"team": "!red"}))
    assert chosen.label_selector == {"team": "!red"} and chosen.accelerator_type == "L4"


def test_an_accelerator_for_workers_without_gpus_is_refused() -> None:
    with pytest.raises(ValueError, match="or workers"):
        WorkersConfig(accelerator="H100")
    with pytest.raises(ValueError, match="labels"):
        WorkersConfig(labels={"team": "blue red"})


def test_a_table_has_a_line_for_each_check_and_keeps_the_faults(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[Findings] = []
    preflight = Preflight(told.append)
    preflight.note("nodes", "7 nodes")
    preflight.note("workers", "busy", state="waits")
    preflight.passed()
    preflight.note("storage", "shared", [Fault("storage", "/s", "another")], wrong="not shared by node b")
    with pytest.raises(RefusedInput, match="another"):
        preflight.passed()
    assert [len(one.checks) for one in told] == [2]
    show_checks(open_terminal(), preflight.checks)
    assert capsys.readouterr().out.splitlines() == [
        "  ✓ nodes    7 nodes",
        "  … workers  busy",
        "  ✗ storage  not shared by node b",
    ]


def test_files_that_a_node_has_not_or_has_otherwise_are_named(tmp_path: Path) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    same.write_text("seven")
    other.write_text("eleven")
    files = files_named({"data.train.files": [str(same), str(other)]})
    assert _unlike(files["data.train.files"]) == ""
    other.write_text("3")
    (tmp_path / "same").unlink()
    found = _unlike(files["data.train.files"])
    assert "same (No such file" in found and "other (1 bytes instead of 6)" in found
    reports = [NodeReport(name, "", unlike={"data.train.files": found}) for name in "ab"]
    (fault,) = file_faults(files, [*reports, NodeReport("c", "")])
    assert "on node a, and 1 more nodes" in str(fault)


def test_memory_that_states_alone_exceed_is_refused_and_a_close_estimate_is_warned_of() -> None:
    memory = WorkerMemory(
        weights=3e9, gradients=0, masters=2e9, moments=2e9, activations=4e9, loss_head=0, teacher=0, buffers=0
    )
    preview = SimpleNamespace(memory=memory, stage=SimpleNamespace(name="heal"))
    for size, state in ((6 * 10**9, "bad"), (8 * 10**9, "warned"), (12 * 10**9, "good")):
        preflight, report = Preflight(), NodeReport("a", "", gpu_bytes=(size,))
        _note_memory(preflight, WorkersConfig(gpus_each=1), [preview], [report])  # type: ignore[list-item]
        assert [one.state for one in preflight.checks] == [state]
        assert [fault.path for fault in preflight.faults] == ["stages.heal"] * (state == "bad")
