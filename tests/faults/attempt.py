"""One attempt at a run: two forked ranks carry out the stages that are left, and one may be killed on the way."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import astuple, dataclass
from datetime import timedelta
from multiprocessing import connection, get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist

from espalier.distributed.world import World
from espalier.jobs.job import RetryConfig
from espalier.stages.controller import Progress, Run, decide
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.stages.plan import Plan
from espalier.stages.run_folder import RunFolder
from espalier.worker.run_stage import run_stage
from faults.moments import BOUNDARY, Moment, Tripwire, watched

RANKS = 2
_LIMIT_SECONDS = 180.0


@dataclass(frozen=True)
class Shot:
    """Which rank is to be killed at what.

    Attributes:
        ordinal: at the how-manieth such moment of this attempt, from 0.
        grace_seconds: how long the other rank goes on before the harness ends it; 0 kills all ranks.
    """

    moment: Moment
    rank: int
    ordinal: int
    grace_seconds: float


@dataclass(frozen=True)
class Attempt:
    """How it ended.

    Attributes:
        text: where the rank was killed, or what went wrong.
        counts: moments that each rank passed, when all is done.
    """

    end: Literal["done", "killed", "failed"]
    text: str = ""
    counts: tuple[Counter[Moment], ...] = ()


def attempt(run: Path, plan: Plan, shot: Shot | None) -> Attempt:
    """Go on with the run in folder `run`. To be called from a process without threads or a process group."""
    with tempfile.TemporaryDirectory(prefix="espalier-ranks-") as name:
        folder = Path(name)
        processes = [
            get_context("fork").Process(target=_rank, args=(rank, folder, run, plan, shot), daemon=True)
            for rank in range(RANKS)
        ]
        for process in processes:
            process.start()
        _wait(processes, grace_seconds=shot.grace_seconds if shot else 5.0)
        if (folder / "epitaph").exists():
            return Attempt("killed", (folder / "epitaph").read_text())
        if any(process.exitcode for process in processes):
            faults = [path.read_text() for path in sorted(folder.glob("*.fault"))]
            codes = [process.exitcode for process in processes]
            return Attempt("failed", "\n".join(faults) or f"ranks ended with {codes}")
        return Attempt("done", counts=tuple(_counts(folder / f"{rank}.json") for rank in range(RANKS)))


def _wait(processes: list[ForkProcess], *, grace_seconds: float) -> None:
    """Until all have ended; when one dies, the others are killed, as a cluster would."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    while alive := [process for process in processes if process.exitcode is None]:
        # Now and then without a word: a child of its own may outlive a rank, and hold on to what would tell.
        connection.wait([process.sentinel for process in alive], timeout=1.0)
        died = any(process.exitcode for process in processes)
        if died:
            connection.wait([process.sentinel for process in alive if process.exitcode is None], grace_seconds)
        if died or time.monotonic() > deadline:
            for process in alive:
                process.kill()
                process.join()


def _rank(rank: int, folder: Path, run: Path, plan: Plan, shot: Shot | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.fsync = lambda descriptor: None  # a kill leaves the page cache alone
    _silence(folder / f"{rank}.log")
    mine = shot if shot and shot.rank == rank else None
    wire = Tripwire(mine and mine.moment, mine.ordinal if mine else 0, folder / "epitaph")
    try:
        with watched(wire):
            _go_on(_world(rank, folder), run, plan, wire)
    except BaseException:
        (folder / f"{rank}.fault").write_text(traceback.format_exc())
        os._exit(1)
    (folder / f"{rank}.json").write_text(json.dumps([[*astuple(one), n] for one, n in wire.counts.items()]))
    os._exit(0)


def _world(rank: int, folder: Path) -> World:
    os.environ.update({"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": str(RANKS)})
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=RANKS,
        timeout=timedelta(seconds=_LIMIT_SECONDS),
    )
    return World.from_process_group()


def _go_on(world: World, run: Path, plan: Plan, wire: Tripwire) -> None:
    """What the controller and the workers of a run do, order by order."""
    folder, control = RunFolder(run), Control()
    while (order := world.from_rank_zero(_next_order(folder, plan))) is not None:
        stage, attempt = order
        wire.stage, wire.kind = stage, plan[stage].config.kind
        wire.passes(BOUNDARY, "order", "before the order")
        if world.is_rank_zero:
            folder.note_attempt(attempt)
        wire.passes(BOUNDARY, "order", "after the order")
        world.barrier()
        run_stage(StageOrder(str(run), stage, attempt), world, control)
        wire.passes(BOUNDARY, "order", "after the stage")
    world.barrier()


def _next_order(folder: RunFolder, plan: Plan) -> tuple[str, int] | None:
    """Stage and attempt; None when all is done."""
    results = {stage.name: result for stage in plan.stages if (result := folder.result(stage.name)) is not None}
    decision = decide(plan, Progress(results, folder.attempts()), RetryConfig())
    return (decision.stage.name, decision.attempt) if isinstance(decision, Run) else None


def _silence(path: Path) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)


def _counts(path: Path) -> Counter[Moment]:
    return Counter({Moment(*fields): n for *fields, n in json.loads(path.read_text())})
