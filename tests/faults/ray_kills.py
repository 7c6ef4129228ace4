"""`espalier run` on a local Ray cluster, one of its processes or all of them killed again and again."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

from faults.attempt import attempt
from faults.ground import NAME, make_material, write_down, write_job_file
from faults.outcome import differences, outcome
from support.kill import num_steps, start

WHO = ("worker", "driver", "raylet", "everything")
_STEPS = 60
_LEVEL = "gradients"
_KILLS_A_RUN = 6
_PATIENCE_SECONDS = 300.0
_STARTS = 20  # of the command for one run: each kill ends it at most once


@dataclass
class RayKills:
    """What came of them.

    Attributes:
        made: what was killed and when, in order.
        faults: what differs, or why a run did not end.
    """

    made: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        counts = Counter(who for who, _ in self.made)
        row = "".join(f"{counts[who]:>13}" for who in WHO)
        head = "on Ray, gradients" + "".join(f"{who:>13}" for who in WHO) + f"{'total':>13}"
        verdict = "\n  ".join(["DIFFERS", *self.faults]) if self.faults else "all equal"
        return f"{head}\n{'kills':<17}{row}{len(self.made):>13}  {verdict}, {self.seconds:.0f} s"


def play_ray(folder: Path, *, kills: int, seed: int) -> RayKills:
    """Make the kills, six to a run, and compare every run with one of two forked ranks that nothing happened to.

    A kill that a run has ended before falls to the next run.
    """
    began, draw, done = time.monotonic(), random.Random(seed), RayKills()
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        expected = pool.submit(_calm, folder).result()
    left = [WHO[number % len(WHO)] for number in range(kills)]
    draw.shuffle(left)
    for number in range(2 * kills):
        if not left or done.faults:
            break
        storage = folder / f"rough-{number}"
        job = write_job_file(folder, storage, _LEVEL, in_background=number % 2 == 0, steps=_STEPS)
        try:
            made = _kill_run(job, storage / NAME, left[:_KILLS_A_RUN], draw)
        except (AssertionError, TimeoutError) as error:
            done.faults.append(f"{storage}: {error}; see output.txt there")
            continue
        done.made, left = done.made + made, left[len(made) :]
        done.faults += [f"{storage}: {one}" for one in differences(expected, outcome(storage / NAME))]
    done.seconds = time.monotonic() - began
    return done


def _calm(folder: Path) -> dict[str, Any]:
    make_material(folder)
    run = folder / "calm" / NAME
    ended = attempt(run, write_down(folder, run, _LEVEL, in_background=True, steps=_STEPS), None)
    assert ended.end == "done", ended.text
    return outcome(run)


def _kill_run(job: Path, run: Path, victims: Sequence[str], draw: random.Random) -> list[tuple[str, str]]:
    """One run with all its kills, to its end."""
    made: list[tuple[str, str]] = []
    seen: set[psutil.Process] = set()
    process = start(job)
    try:
        for who, (name, has_come) in zip(victims, _points(run, len(victims), draw), strict=True):
            process = _wait(process, job, has_come)
            time.sleep(draw.uniform(0.0, 0.1))
            tree = _kill(process, who)
            if tree is None:
                break
            seen |= tree
            made.append((who, name))
            if who != "worker":
                _wait_for_end(process)
                process = start(job)
        process = _wait(process, job, (run / "exports" / "out").is_dir)
        assert _wait_for_end(process) == 0, f"the last start ended with {process.returncode}"
    finally:
        seen |= _tree(process)
        _end(seen)
    return made


def _points(run: Path, count: int, draw: random.Random) -> list[tuple[str, Callable[[], bool]]]:
    """Moments of a run in their order: in or before prune, at drawn steps, while the last stages work."""
    steps = sorted(draw.sample(range(1, 2 * _STEPS), max(0, count - 2)))
    points = [("prune", (run / "stages" / "slim").is_dir)]
    points += [(f"step {step}", lambda step=step: num_steps(run) >= step) for step in steps]
    return [*points, ("after training", (run / "stages" / "tune" / "result.json").exists)][:count]


def _wait(process: subprocess.Popen[str], job: Path, has_come: Callable[[], bool]) -> subprocess.Popen[str]:
    """Until the moment has come; a command that gave up before is given again. The one that runs then."""
    deadline, starts = time.monotonic() + _PATIENCE_SECONDS, 1
    while not has_come():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        if process.poll() is not None:
            assert starts < _STARTS, f"it ended by itself with {process.returncode} again and again"
            process, starts = start(job), starts + 1
        time.sleep(0.005)
    return process


def _wait_for_end(process: subprocess.Popen[str]) -> int:
    try:
        return process.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        raise TimeoutError("the command neither goes on nor ends") from None


def _kill(process: subprocess.Popen[str], who: str) -> set[psutil.Process] | None:
    """The tree as it was; what is killed is one of it, or all. None when the run ended before."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        tree = _tree(process)
        if victims := list(_victims(tree, process.pid, who)):
            for one in victims:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            return tree
        time.sleep(0.02)  # workers are on their way
    if process.poll() == 0:
        return None
    raise TimeoutError(f"there was no {who} to kill")


def _tree(process: subprocess.Popen[str]) -> set[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        driver = psutil.Process(process.pid)
        return {driver, *driver.children(recursive=True)}
    return set()


def _victims(tree: set[psutil.Process], driver: int, who: str) -> Iterator[psutil.Process]:
    words = {"worker": "RayTrainWorker", "raylet": "raylet/raylet"}
    for one in sorted(tree, key=lambda one: one.pid):
        with suppress(psutil.NoSuchProcess):
            if who == "everything" or (who == "driver" and one.pid == driver):
                yield one
            elif who in words and words[who] in " ".join(one.cmdline()[:1]):
                yield one
                return


def _end(processes: set[psutil.Process]) -> None:
    """Leave nothing of a killed cluster behind."""
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            one.kill()  # it knows a process number that was given again
    psutil.wait_procs(list(processes), timeout=10)
