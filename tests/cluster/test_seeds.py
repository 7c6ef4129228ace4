"""One job under several seeds: the comparison of its runs, and a whole job."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from espalier.config.faults import RefusedInput
from espalier.jobs.job import WorkersConfig
from espalier.jobs.load import read_job
from espalier.stages.controller import ExitCode
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier_cluster import local_resources, seeds
from espalier_cluster.drive import HowToRun
from espalier_cluster.local_resources import local_room
from espalier_cluster.seeds import Child, _child, summary, worst
from espalier_cluster.terminal import open_terminal
from support.labelled import labelled_job, write_labelled_job


def finish(child: Child, ours: float, theirs: float, *, key: str = "k") -> None:
    models = {"corrected": {"accuracy": ours}, "vanilla": {"accuracy": theirs}}
    metrics = {"model": "corrected", "watched": "accuracy", "models": models}
    folder = RunFolder.of(child.job)
    folder.write_json("plan.json", [{"name": "corrected", "key": "c"}, {"name": "scores", "key": "k"}])
    folder.write_result(StageResult("scores", "evaluate", key, "done", None, metrics))


def test_models_are_compared_seed_by_seed_with_the_first_they_are_held_against(tmp_path: Path) -> None:
    job = read_job(write_labelled_job(tmp_path))
    children = [_child(job, RunFolder(tmp_path / "seeds"), seed) for seed in (3, 4, 5)]
    assert [child.job.seed for child in children] == [3, 4, 5]
    assert len({RunFolder.of(child.job).path for child in children}) == 3
    for child, (ours, theirs) in zip(children, [(0.9, 0.7), (0.8, 0.7), (0.85, 0.8)], strict=True):
        finish(child, ours, theirs)
    rows = {row["model"]: row for row in summary(children)}
    assert rows["corrected"]["values"] == [0.9, 0.8, 0.85] and rows["corrected"]["baseline"] == "vanilla"
    assert rows["corrected"]["difference"] == pytest.approx(0.35 / 3) and rows["vanilla"]["difference"] == 0.0


def test_infinite_perplexities_are_compared_as_losses(tmp_path: Path) -> None:
    job = read_job(write_labelled_job(tmp_path))
    children = [_child(job, RunFolder(tmp_path / "seeds"), seed) for seed in (3, 4)]
    for child, (nll, perplexity) in zip(children, ((2.0, 7.389), (800.0, None)), strict=True):
        models = {"corrected": {"nll": nll, "perplexity": perplexity}, "vanilla": {"nll": 1.0, "perplexity": 2.718}}
        finish(child, 0.9, 0.7)
        result = StageResult("scores", "evaluate", "k", "done", None, {"model": "corrected", "models": models})
        RunFolder.of(child.job).write_result(result)
    rows = {row["model"]: row for row in summary(children)}
    assert rows["corrected"]["metric"] == "nll" and rows["corrected"]["values"] == [2.0, 800.0]


def test_seeds_without_an_evaluation_are_left_out(tmp_path: Path) -> None:
    job = read_job(write_labelled_job(tmp_path))
    assert summary([_child(job, RunFolder(tmp_path / "seeds"), 3)]) == [] == summary([])


def test_results_of_earlier_settings_are_not_compared_with_those_of_new_ones(tmp_path: Path) -> None:
    job = read_job(write_labelled_job(tmp_path))
    children = [_child(job, RunFolder(tmp_path / "seeds"), seed) for seed in (3, 4)]
    for child, key in zip(children, ("of-old-settings", "k"), strict=True):
        finish(child, 0.9, 0.7, key=key)
    assert [row["values"] for row in summary(children)] == [[0.9], [0.7]]
    (RunFolder.of(children[1].job).path / "plan.json").unlink()
    assert summary(children) == []


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([0, 0], ExitCode.DONE),
        ([0, -9], ExitCode.ERROR),
        ([75, 137], ExitCode.ERROR),
        ([0, 3], ExitCode.GATE_FAILED),
        ([3, 75], ExitCode.RESUMABLE),
        ([75, 2], ExitCode.REFUSED),
        ([2, 1, 0], ExitCode.ERROR),
    ],
)
def test_the_worst_exit_code_is_that_of_all_seeds(codes: list[int], expected: ExitCode) -> None:
    assert worst(codes) == expected


def test_child_processes_are_stopped_when_the_parent_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = read_job(write_labelled_job(tmp_path))
    children = [_child(job, RunFolder(tmp_path / "seeds"), seed) for seed in (3, 4)]
    begun: list[subprocess.Popen[bytes]] = []

    def start(child: Child, how: HowToRun, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        begun.append(subprocess.Popen(["sleep", "0" if child.seed == 3 else "60"]))
        return begun[-1]

    monkeypatch.setattr(seeds, "_start", start)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(OSError, match="closed"):
        seeds._run_all(children, HowToRun(), ({}, {}), Closed())
    assert [process.poll() for process in begun] == [0, -signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is before


def test_results_that_cannot_be_compared_do_not_change_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(children: list[Child], *_: object) -> list[int]:
        for child in children:
            finish(child, 0.9, 0.7)
            RunFolder.of(child.job).write_json("plan.json", 7)
        return [0] * len(children)

    monkeypatch.setattr(seeds, "_run_all", spoil)
    job = read_job(write_labelled_job(tmp_path, seeds=2))
    assert seeds.run_seeds(job, HowToRun(), open_terminal()) is ExitCode.DONE
    assert "the seeds cannot be compared: " in capsys.readouterr().out


class Closed(Console):
    """A terminal that is gone."""

    def print(self, *_: object, **__: object) -> None:
        raise OSError("closed")


def test_a_name_that_seeds_make_too_long_is_refused(tmp_path: Path) -> None:
    for length, seed in ((58, 7), (57, 8)):
        with pytest.raises(RefusedInput, match=rf"`name` .*; allowed: at most {length - 1} characters, as the runs of"):
            read_job(write_labelled_job(tmp_path, name="n" * length, seed=seed, seeds=3))
        job = read_job(write_labelled_job(tmp_path, name="n" * (length - 1), seed=seed, seeds=3))
        assert [len(_child(job, RunFolder(tmp_path), seed + number).job.name) for number in range(3)][-1] == 64
    assert read_job(write_labelled_job(tmp_path, name="n" * 64)).seeds == 1


def test_each_place_has_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = read_job(write_labelled_job(tmp_path))
    children = [_child(job, RunFolder(tmp_path / "seeds"), seed) for seed in range(5)]
    begun: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(child: Child, how: HowToRun, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        assert not [one for place, one in begun if place == variables["PLACE"] and one.poll() is None]
        begun.append((variables["PLACE"], subprocess.Popen(["sleep", f"0.{child.seed + 1}"])))
        return begun[-1][1]

    monkeypatch.setattr(seeds, "_start", start)
    monkeypatch.setattr(seeds, "_LOOK_SECONDS", 0.01)
    places = ({"PLACE": "a"}, {"PLACE": "b"})
    assert seeds._run_all(children, HowToRun(), places, open_terminal()) == [0] * 5
    assert {place for place, _ in begun} == {"a", "b"}


GIB = 2**30


@pytest.mark.parametrize(
    ("workers", "machine", "expected", "bound"),
    [
        ({"count": 2}, {"cores": 9, "gib": 100}, 4, "cores"),
        ({"count": 2, "cpus_each": 4}, {"cores": 9, "gib": 100}, 1, "cores"),
        ({"count": 4}, {"cores": 2, "gib": 100}, 1, "cores"),
        ({"count": 1}, {"cores": 64, "gib": 24}, 4, "memory"),
        ({"count": 1}, {"cores": 64, "gib": 500}, 7, "cores"),
        ({"count": 2, "gpus_each": 1}, {"cores": 64, "gib": 500, "gpus": "0,3,5,6,7"}, 2, "GPUs"),
        ({"count": 2, "gpus_each": 1}, {"cores": 64, "gib": 500, "gpus": ""}, 1, "GPUs"),
    ],
)
def test_the_machine_has_room_for_so_many_runs(
    workers: dict[str, int],
    machine: dict[str, Any],
    expected: int,
    bound: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """7 seeds of workers that take 3 GiB each, beside a GiB for each process and one for the cluster."""
    put_on(machine, monkeypatch)
    found = local_room(WorkersConfig.model_validate(workers), worker_bytes=3 * GIB, in_process=False, most=7)
    assert len(found.places) == expected
    assert expected == 7 or found.bound == bound
    gpus = [one.get("CUDA_VISIBLE_DEVICES") for one in found.places]
    assert gpus == (["0,3", "5,6"] if machine.get("gpus") else [gpus[0]] * expected)


def test_runs_in_this_process_take_the_threads_that_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    put_on({"cores": 8, "gib": 100}, monkeypatch)
    workers = WorkersConfig()
    for threads, expected in (("2", 4), ("1", 5), ("", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert len(local_room(workers, worker_bytes=0, in_process=True, most=5).places) == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    places = local_room(workers, worker_bytes=0, in_process=True, most=5).places
    assert places == ({"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "5"})


def put_on(machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine seem to have so many cores, GiB of free memory and GPUs."""
    memory = SimpleNamespace(available=machine["gib"] * GIB)
    monkeypatch.setattr(local_resources.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(local_resources.os, "sched_getaffinity", lambda process: set(range(machine["cores"])))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", machine.get("gpus", ""))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_seeds_run_and_are_compared(tmp_path: Path) -> None:
    stages = [stage for stage in labelled_job(tmp_path)["stages"] if stage["name"] in ("parent", "vanilla", "scores")]
    stages[2] |= {"model": "vanilla", "against": []}
    job = write_labelled_job(tmp_path, stages=stages, seeds=2)
    command = [sys.executable, "-m", "espalier_cluster.command", "run", str(job), "--in-process"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.DONE, done.stdout + done.stderr
    assert done.stdout.count(": done") == 2 and "scores" in done.stdout
    assert (tmp_path / "runs" / "tiny" / "seeds.json").exists()
