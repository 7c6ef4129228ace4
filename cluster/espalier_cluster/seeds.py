"""Run one job under several seeds, side by side where cluster or machine have room, and compare the results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from espalier import __version__
from espalier.evaluation.paired import compare
from espalier.jobs.job import Job, seed_name
from espalier.jobs.recipe import stages_of
from espalier.jobs.schema import resolved
from espalier.stages.controller import ExitCode
from espalier.stages.ownership import claim, require_own
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier_cluster.drive import HowToRun
from espalier_cluster.driver_end import driver_file
from espalier_cluster.local_cluster import cluster
from espalier_cluster.local_resources import Room, local_room
from espalier_cluster.outcome import failure_reported
from espalier_cluster.stop_watch import stop_on_wish
from espalier_cluster.stopping import handle_signals
from espalier_cluster.tables import show_table
from espalier_cluster.terminal import say

_LOOK_SECONDS = 0.2
_ENDED = (ExitCode.DONE, ExitCode.GATE_FAILED)
_WORST = (ExitCode.ERROR, ExitCode.REFUSED, ExitCode.RESUMABLE, ExitCode.GATE_FAILED)


@dataclass(frozen=True)
class Child:
    """The run of one seed: its job, the file of that job, the log of its process."""

    seed: int
    job: Job
    file: Path
    log: Path


def run_seeds(job: Job, how: HowToRun, console: Console, *, worker_bytes: int = 0) -> ExitCode:
    """Run every seed to its end, or resume those that were stopped, in `<storage>/<name>/<name>-seed-<n>`.

    Each seed is an `espalier run` process, whose run can be resumed, followed and inspected by itself.

    Args:
        worker_bytes: peak memory of a worker.
    """
    folder = RunFolder.of(job)
    require_own(folder)
    folder.make(job)
    claim(folder, versions={"espalier": __version__})
    children = [_child(job, folder, job.seed + number) for number in range(job.seeds)]
    room = room_for(job, how, worker_bytes=worker_bytes)
    why = f", as more would lack {room.bound}" if len(room.places) < job.seeds else ""
    say(console, f"{job.seeds} seeds, {len(room.places)} at a time{why}; logs in {folder.path}")
    with driver_file(folder, how.submission, how.options()) as file:
        with stop_on_wish(folder, how.submission):
            codes = _run_all(children, how, room.places, console)
        file.end(worst(codes), f"{_num_done(codes)} of {len(codes)} seeds are done")
    ended = [child for child, code in zip(children, codes, strict=True) if code in _ENDED]
    with failure_reported(console, "the seeds cannot be compared"):
        shown = summary(ended)
        folder.write_json("seeds.json", shown)
        show(console, shown)
    return worst(codes)


def _num_done(codes: Sequence[int]) -> int:
    return sum(code == ExitCode.DONE for code in codes)


def worst(codes: Sequence[int]) -> ExitCode:
    """The exit code for all runs: the worst of theirs. Any other code, as of a killed process, counts as an error."""
    if any(code not in (*_WORST, ExitCode.DONE) for code in codes):
        return ExitCode.ERROR
    return next((code for code in _WORST if code in codes), ExitCode.DONE)


def room_for(job: Job, how: HowToRun, *, worker_bytes: int) -> Room:
    """The places for runs at once: on the cluster, or on this machine, where each run starts a cluster of its own."""
    if how.address is None:
        return local_room(job.workers, worker_bytes=worker_bytes, in_process=how.in_process, most=job.seeds)
    with cluster(job.workers, address=how.address, insecure=how.insecure):
        from espalier_cluster.preflight import room  # Ray reads its environment on import

        fitting = room(job.workers) // job.workers.count
        return Room(({},) * max(1, min(job.seeds, fitting)), "room on the cluster")


def summary(children: Sequence[Child]) -> list[dict[str, Any]]:
    """A row for each model of each evaluation: mean and spread over the seeds, and the difference to the baseline.

    The baseline is the first model beside the one that is evaluated. Results of other settings than a run now has count
    for nothing.
    """
    rows = []
    for stage in stages_of(children[0].job) if children else ():
        results = [_result(RunFolder.of(child.job), stage.name) for child in children]
        done = [result.measured for result in results if result is not None and result.measured is not None]
        if not done:
            continue
        rows_of_models = [row for measured in done for row in measured.models.values()]
        perplexity = "nll" if any(row.get("perplexity", 0.0) is None for row in rows_of_models) else "perplexity"
        watched = done[0].watched or perplexity
        values = {name: [measured.models[name][watched] for measured in done] for name in done[0].models}
        baseline = list(values)[min(1, len(values) - 1)]
        for name, of_seeds in values.items():
            paired = compare(of_seeds, values[baseline])
            row = {"stage": stage.name, "metric": watched, "model": name, "values": of_seeds, "baseline": baseline}
            figures: dict[str, Any] = vars(paired)
            rows.append(row | {figure: value if value == value else None for figure, value in figures.items()})
    return rows


def _result(folder: RunFolder, stage: str) -> StageResult | None:
    """The result of a stage, if it was made with the settings of the run's current plan."""
    result, planned = folder.result(stage), folder.planned(stage)
    return result if result is not None and planned is not None and result.key == planned.key else None


def show(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows of `summary` as a table."""
    if not rows:
        return
    headings = ("evaluation", "model", "metric", "seeds", "mean", "spread", "beyond the baseline", "95 %", "p")
    show_table(console, headings, [_shown(row) for row in rows], right=headings[3:])


def _shown(row: dict[str, Any]) -> tuple[str, ...]:
    beside = ["baseline", "", ""]
    if row["model"] != row["baseline"]:
        interval = "" if row["low"] is None else f"{row['low']:+.4f} to {row['high']:+.4f}"
        beside = [f"{row['difference']:+.4f}", interval, "" if row["p"] is None else f"{row['p']:.3f}"]
    numbers = [str(len(row["values"])), f"{row['mean']:.4f}", f"{row['spread']:.4f}"]
    return (row["stage"], row["model"], row["metric"], *numbers, *beside)


def _child(job: Job, folder: RunFolder, seed: int) -> Child:
    name = seed_name(job.name, seed)
    changes = {"name": name, "storage": str(folder.path), "seed": seed, "seeds": 1}
    own = Job.model_validate(resolved(job) | changes)
    folder.write_json(f"{name}.json", resolved(own))
    return Child(seed, own, folder.path / f"{name}.json", folder.path / f"{name}.log")


def _run_all(
    children: Sequence[Child], how: HowToRun, places: Sequence[Mapping[str, str]], console: Console
) -> list[int]:
    """Run the children, one at a time in each place, with the variables of the place; returns their exit codes.

    A stop signal is passed on to those that run, and the others are not started. No process is left behind.
    """
    waiting, free, stopping = list(children), list(places), False
    held: dict[int, Mapping[str, str]] = {}
    running: dict[int, subprocess.Popen[bytes]] = {}
    codes: dict[int, int] = {}

    def on_signal(number: int, frame: object) -> None:
        nonlocal stopping
        if number != signal.SIGHUP or not stopping:  # a second SIGTERM ends a child at once; SIGHUP may come twice
            for process in running.values():
                process.send_signal(signal.SIGTERM)
        stopping = True

    with handle_signals(on_signal):
        try:
            while running or (waiting and not stopping):
                while waiting and free and not stopping:
                    child = waiting.pop(0)
                    held[child.seed] = free.pop(0)
                    running[child.seed] = _start(child, how, held[child.seed])
                for seed, process in list(running.items()):
                    if process.poll() is not None:
                        codes[seed] = process.returncode
                        free.append(held.pop(seed))
                        del running[seed]
                        say(console, f"seed {seed}: {_word(process.returncode)}")
                time.sleep(_LOOK_SECONDS)
        finally:
            for process in running.values():
                process.send_signal(signal.SIGTERM)
            for process in running.values():
                process.wait()
    return [codes.get(child.seed, ExitCode.RESUMABLE) for child in children]


def _start(child: Child, how: HowToRun, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, so that Ctrl-C does not reach it directly as well."""
    with child.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "espalier_cluster.command", "run", str(child.file), *how.options()],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **variables},
        )


def _word(code: int) -> str:
    words: dict[int, str] = {
        ExitCode.DONE: "done",
        ExitCode.RESUMABLE: "stopped, to be resumed",
        ExitCode.GATE_FAILED: "gate failed",
    }
    return words.get(code, f"failed with exit code {code}; its log says why")
