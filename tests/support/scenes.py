"""A training stage on hard days: one worker is told to stop, a figure is wrong, a disk is full or slow."""

from __future__ import annotations

import errno
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from espalier.distributed.world import World
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.stages.run_folder import RunFolder
from espalier.storage.local import LocalStorage
from espalier.tracking import jsonl
from espalier.training import updates
from espalier.training.step import StepReport, sample_ids
from espalier.worker.run_stage import run_stage
from support.tiny import tiny_job, write_job

STAGE = "heal"


@dataclass
class Scene:
    """One start of the stage.

    Attributes:
        settings: of the stage, changed for this start.
        on_step: called with (step, rank, control, report) after each step; what it returns is taken for the report.
        on_write: called with (path, rank) before each file is written.
        attempt: number of the order.
        samples: filled while playing: step -> ids of this worker's samples.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    on_step: Callable[[int, int, Control, StepReport], StepReport] = lambda step, rank, control, report: report
    on_write: Callable[[str, int], None] = lambda path, rank: None
    attempt: int = 1
    samples: dict[int, list[int]] = field(default_factory=dict)


def prepare_ground(world: World, root: str, settings: dict[str, Any], **job: Any) -> None:
    """The job below `root`, and the stages before the one that trains."""
    if world.is_rank_zero:
        stages = tiny_job(Path(root))["stages"]
        stages[2] |= settings
        write_job(Path(root), stages=stages, workers={"count": world.size}, **job)
    world.barrier()
    _write_down(world, root, {})
    for stage in ("parent", "slim"):
        run_stage(StageOrder(str(_run(root)), stage, 1), world, Control())


def play(world: World, root: str, scene: Scene) -> str:
    """Start the stage on as many workers as there are; `done`, or the cause and message of its failure."""
    _write_down(world, root, scene.settings)
    if world.is_rank_zero:
        RunFolder(_run(root)).note_attempt(scene.attempt)
    world.barrier()
    control = Control()
    with _hooked_steps(scene, control, world.rank), _hooked_writes(scene, world.rank):
        try:
            run_stage(StageOrder(str(_run(root)), STAGE, scene.attempt), world, control)
        except StageFailed as failure:
            return f"{failure.cause}: {failure.message}"
    return "done"


def outcome(root: str) -> dict[str, Any]:
    """What can be compared: steps with their figures, notes, checkpoints, and the weights and moments saved last."""
    run = _run(root)
    steps, events = jsonl.read(run / "records" / "steps.jsonl"), jsonl.read(run / "records" / "events.jsonl")
    checkpoints = sorted(path.parent for path in (run / "stages" / STAGE).glob("step-*/manifest.json"))
    manifest = json.loads((checkpoints[-1] / "manifest.json").read_text())["manifest"] if checkpoints else {}
    return {
        "steps": {one["step"]: (one["loss"], one["gradient_norm"], one["lr"]) for one in steps},
        "notes": [one["message"] for one in events if one["kind"] == "note"],
        "checkpoints": [int(path.name.removeprefix("step-")) for path in checkpoints],
        "hashes": sorted(record["xxh3"] for record in manifest.get("files", {}).values()),
    }


def fresh(world: World, ground: str, root: str) -> str:
    """A copy of the ground to play on."""
    if world.is_rank_zero:
        shutil.copytree(ground, root)
        job = Path(root, "job.yaml")
        job.write_text(job.read_text().replace(ground, root))
    world.barrier()
    return root


def at(number: int, change: Callable[[int, Control, StepReport], StepReport]) -> Any:
    """A hook that changes one step."""

    def on_step(step: int, rank: int, control: Control, report: StepReport) -> StepReport:
        return change(rank, control, report) if step == number else report

    return on_step


def full_disk(step: int, rank: int) -> Callable[[str, int], None]:
    """The disk of one worker is full while the checkpoint of `step` is written."""

    def on_write(path: str, writer: int) -> None:
        if writer == rank and f"step-{step:08d}" in path:
            raise OSError(errno.ENOSPC, "No space left on device")

    return on_write


def slow_disk(seconds: float) -> Callable[[str, int], None]:
    return lambda path, rank: time.sleep(seconds)


NAN = math.nan


def _run(root: str) -> Path:
    return Path(root) / "runs" / "tiny"


def _write_down(world: World, root: str, settings: dict[str, Any]) -> None:
    """What the driver writes before it gives an order."""
    if world.is_rank_zero:
        job = Path(root) / "job.yaml"
        overrides = [f"stages.{STAGE}.{path}={value}" for path, value in settings.items()]
        overrides.append(f"workers.count={world.size}")
        prepared = prepare(read_job(job, overrides))
        prepared.write_down(RunFolder(_run(root)))
    world.barrier()


def _hooked_steps(scene: Scene, control: Control, rank: int) -> Any:
    take_step = updates.take_step

    def hooked(engine: Any, teacher: Any, microbatches: Any, **settings: Any) -> StepReport:
        step = settings["random"][1] + 1
        scene.samples[step] = sample_ids(microbatches)
        return scene.on_step(step, rank, control, take_step(engine, teacher, microbatches, **settings))

    return mock.patch.object(updates, "take_step", hooked)


def _hooked_writes(scene: Scene, rank: int) -> Any:
    write_bytes = LocalStorage.write_bytes

    def hooked(self: LocalStorage, path: str, *parts: Any) -> None:
        scene.on_write(path, rank)
        write_bytes(self, path, *parts)

    return mock.patch.object(LocalStorage, "write_bytes", hooked)
