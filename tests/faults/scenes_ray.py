"""Scenes of the matrix on one local Ray cluster: each is a run of one stage that has to come to its right end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from espalier.jobs.job import RetryConfig, WorkersConfig
from espalier.kinds.load.kind import LoadStage
from espalier.stages.controller import ExitCode, Progress, Surroundings, carry_out
from espalier.stages.failures import FailureCause, StageFailed
from espalier.stages.plan import Stage, build_plan
from espalier_cluster.local_cluster import cluster
from espalier_cluster.log_filter import filter_logs

WORKERS = WorkersConfig(count=2)
RETRY = RetryConfig(backoff_seconds=0.1, grace_seconds=5.0)
LIMIT_SECONDS = 180.0
"""After which a scene that comes to no end is told to stop, and has failed."""


@dataclass(frozen=True)
class RayScene:
    """What happens and what has to come of it.

    Attributes:
        fault: as `faults.work` knows it.
        causes: of the failures that the controller is told of, in turn.
        within: seconds from the fault until it is noticed.
        says: what the first message has to name.
        kills: words of the title of a process that is killed from outside, when the work has got to the fault.
    """

    fault: str
    causes: tuple[FailureCause, ...] = ()
    within: float = 1.0
    code: ExitCode = ExitCode.DONE
    says: str = ""
    kills: str = ""


@dataclass
class _Told:
    failures: list[StageFailed] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    def __call__(self, kind: str, stage: Stage, detail: object) -> None:
        if isinstance(detail, StageFailed):
            self.failures.append(detail)
            self.at.append(time.time())


class RayGround:
    """One cluster and one runner for all scenes."""

    def __init__(self, folder: Path) -> None:
        from espalier_cluster.group_size import GroupSize
        from espalier_cluster.ray_runner import RayRunner  # Ray reads its environment on import

        self._folder = folder
        self._stop = threading.Event()
        self._runner = RayRunner(
            GroupSize(WORKERS), str(folder), work="faults.work:serve", stop=self._stop, retry=RETRY
        )

    @staticmethod
    @contextmanager
    def open(folder: Path) -> Iterator[RayGround]:
        """The tests' folder must be on the workers' path."""
        os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        with filter_logs(), cluster(WORKERS):
            ground = RayGround(folder)
            try:
                yield ground
            finally:
                ground._runner.close()

    def play(self, scene: RayScene) -> str:
        """What was seen.

        Raises:
            AssertionError: it is not what was expected.
        """
        plan = build_plan([LoadStage(name=scene.fault, kind="load", model="/none")], context={})
        folder = self._folder / scene.fault
        folder.mkdir()
        (folder / "key").write_text(plan[scene.fault].key)
        if scene.kills:
            threading.Thread(target=_kill_when_hit, args=(folder / "hit", scene.kills), daemon=True).start()
        told = _Told()
        surroundings = Surroundings(on_event=told)
        self._stop.clear()
        limit = threading.Timer(LIMIT_SECONDS, self._stop.set)
        limit.start()
        stop = carry_out(
            plan, self._runner, run_folder=str(folder), earlier=Progress({}), retry=RETRY, surroundings=surroundings
        )
        limit.cancel()
        return _judge(scene, folder / "hit", told, stop.code)


def _judge(scene: RayScene, hit: Path, told: _Told, code: ExitCode) -> str:
    causes = tuple(failure.cause for failure in told.failures)
    seen = f"{scene.fault}: "
    if causes:
        # A hang is told after the workers have said where they were and are ended.
        seconds = told.failures[0].silent_seconds or told.at[0] - float(hit.read_text())
        seen += f"{', '.join(causes)} after {seconds:.2f} s, then "
        assert seconds <= scene.within, f"{seen}: later than {scene.within:g} s"
        message = told.failures[0].message
        assert scene.says in message, f"{seen}: the message does not say `{scene.says}`: {message}"
    seen += code.name.lower()
    assert causes == scene.causes, f"{seen}; expected {', '.join(scene.causes) or 'no failure'}"
    assert code is scene.code, f"{seen}; expected {scene.code.name.lower()}"
    return seen


def _kill_when_hit(hit: Path, title: str) -> None:
    while not hit.exists():
        time.sleep(0.01)
    for process in psutil.Process().children(recursive=True):
        if title in process.name() or title in " ".join(process.cmdline()[:1]):
            hit.write_text(str(time.time()))
            process.kill()  # all of that title: one of an earlier scene may be on its way out
