"""Scenes of the matrix with `espalier run` as a person gives it: the command, the head of its cluster, signals."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from espalier.stages.controller import ExitCode
from support.kill import finish, num_steps, start
from support.tiny import tiny_job, write_job

_STEPS, _AT, _ENDLESS = 80, 12, 1_000_000
_END_SECONDS = 150.0


def driver_killed(folder: Path) -> str:
    """kill -9 the command; its cluster goes with it and the same command goes on."""
    job, process = _under_way(folder, workers=2)
    tree = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    killed_at = time.monotonic()
    workers = [one for one in tree if _title(one, "RayTrainWorker")]
    assert workers, "there was no worker"
    _, alive = psutil.wait_procs(workers, timeout=60)
    seconds = time.monotonic() - killed_at
    _end(tree)
    assert not alive, f"{len(alive)} workers are alive after 60 s"
    assert seconds <= 10, f"the last worker ended {seconds:.1f} s after the driver; allowed: 10"
    return f"no worker after {seconds:.1f} s; the same command: {_again(job)}"


def head_killed(folder: Path) -> str:
    """kill -9 the process that a Ray cluster cannot do without, in a stage that lasts."""
    job, process = _under_way(folder, workers=2, steps=_ENDLESS)
    tree = psutil.Process(process.pid).children(recursive=True)
    next(one for one in tree if _title(one, "gcs_server")).kill()
    killed_at = time.monotonic()
    try:
        code = process.wait(_END_SECONDS)
    finally:
        process.kill()
        _end(tree)
    run = job.parent / "runs" / "tiny"
    steps, saved = num_steps(run), _saved(run)
    text = f"exit code {code} after {time.monotonic() - killed_at:.0f} s at step {steps}, saved {saved}"
    assert code == ExitCode.RESUMABLE, text
    assert saved == f"step-{steps:08d}", text
    again = start(job)
    _wait_for(lambda: num_steps(run) > steps, again)
    again.send_signal(signal.SIGTERM)
    assert again.wait(_END_SECONDS) == ExitCode.RESUMABLE, text
    return f"{text}; the same command goes on at step {steps + 1}"


def asked_once(folder: Path) -> str:
    """One SIGINT: the state of that step is saved."""
    return _asked(folder, signal.SIGINT, times=1)


def asked_twice(folder: Path) -> str:
    """A second one at once: nothing more is waited for."""
    return _asked(folder, signal.SIGINT, times=2)


def terminated(folder: Path) -> str:
    """SIGTERM to the command."""
    return _asked(folder, signal.SIGTERM, times=1)


def _asked(folder: Path, number: signal.Signals, *, times: int) -> str:
    job, process = _under_way(folder, workers=1)
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.02)
    asked_at = time.monotonic()
    code = process.wait(_END_SECONDS)
    run = job.parent / "runs" / "tiny"
    seconds, steps, saved = time.monotonic() - asked_at, num_steps(run), _saved(run)
    text = f"{times} x {number.name}: exit code {code} after {seconds:.1f} s at step {steps}, saved {saved}"
    assert code == ExitCode.RESUMABLE, text
    if times == 1:
        assert saved == f"step-{steps:08d}", text
    return f"{text}; the same command: {_again(job, '--in-process')}"


def _saved(run: Path) -> str:
    """The newest checkpoint of the stage under way."""
    return max(path.parent.name for path in run.glob("stages/heal/step-*/manifest.json"))


def _under_way(folder: Path, *, workers: int, steps: int = _STEPS) -> tuple[Path, subprocess.Popen[str]]:
    """A run that has taken some steps."""
    stages = tiny_job(folder)["stages"]
    stages[2] |= {"budget": {"steps": steps}, "checkpoint": {"every": 5}}
    job = write_job(folder, stages=stages, workers={"count": workers})
    process = start(job, *(["--in-process"] if workers == 1 else []))
    _wait_for(lambda: num_steps(folder / "runs" / "tiny") >= _AT, process)
    return job, process


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _END_SECONDS
    while not condition():
        assert process.poll() is None, f"it ended by itself with {process.returncode}"
        assert time.monotonic() < deadline, "it takes no steps"
        time.sleep(0.005)


def _again(job: Path, *arguments: str) -> str:
    code = finish(job, *arguments)
    assert code == ExitCode.DONE, f"the same command ended with {code}"
    steps = num_steps(job.parent / "runs" / "tiny")
    assert steps == _STEPS, f"{steps} steps are recorded of {_STEPS}"
    return "done"


def _title(process: psutil.Process, word: str) -> bool:
    try:
        return word in " ".join(process.cmdline()[:1])
    except psutil.Error:
        return False


def _end(tree: list[psutil.Process]) -> None:
    """Leave nothing of the cluster behind."""
    for one in tree:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(tree, timeout=10)
