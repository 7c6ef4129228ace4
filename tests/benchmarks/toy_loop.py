"""The same loop for Ray Train's TorchTrainer and for espalier: steps of 50 ms, a collective each, a save every ten."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.train
import torch
import torch.distributed as dist
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer

from espalier.jobs.job import RetryConfig, WorkersConfig
from espalier.kinds.load.kind import LoadStage
from espalier.stages.controller import Progress, Surroundings, carry_out
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.stages.plan import Stage, build_plan
from espalier.stages.result import StageResult
from espalier_cluster.group_size import GroupSize
from espalier_cluster.ray_runner import RayRunner

WORKERS = WorkersConfig(count=2)
_PLAN = build_plan([LoadStage(name="toy", kind="load", model="/none")], context={})
_MAX_FAILURES = 3


def with_ray_train(folder: str) -> None:
    """Until `enough` lies in the folder."""
    TorchTrainer(
        _train_loop,
        train_loop_config={"folder": folder},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=WORKERS.count, resources_per_worker={"CPU": WORKERS.cpus_each}),
        run_config=RunConfig(
            name="ray",
            storage_path=folder,
            failure_config=FailureConfig(max_failures=_MAX_FAILURES),
            callbacks=[_Notice(folder)],
        ),
    ).fit()


def with_espalier(folder: str) -> None:
    """The same through the runner and the controller."""

    def on_event(kind: str, stage: Stage, detail: object) -> None:
        if kind == "stage_failed":
            note(folder)

    retry = RetryConfig(max_failures=_MAX_FAILURES)
    runner = RayRunner(GroupSize(WORKERS), folder, work="toy_loop:serve", retry=retry)
    surroundings = Surroundings(on_event=on_event)
    carry_out(_PLAN, runner, run_folder=folder, earlier=Progress({}), retry=retry, surroundings=surroundings)
    runner.close()


def note(folder: str) -> None:
    """The fault is noticed now; only the first time counts."""
    if not Path(folder, "noticed").exists():
        Path(folder, "noticed").write_text(str(time.time()))


class _Notice(UserCallback):
    def __init__(self, folder: str) -> None:
        self._folder = folder

    def after_exception(self, run_context: Any, worker_exceptions: Any) -> None:
        note(self._folder)


def _train_loop(config: dict[str, str]) -> None:
    def save(step: int) -> None:
        with tempfile.TemporaryDirectory() as made:
            Path(made, "step").write_text(str(step))
            checkpoint = Checkpoint.from_directory(made) if dist.get_rank() == 0 else None
            ray.train.report({"step": step}, checkpoint=checkpoint)

    newest = ray.train.get_checkpoint()
    with newest.as_directory() if newest else tempfile.TemporaryDirectory() as there:
        first = int(Path(there, "step").read_text()) if newest else 0
    _take_steps(Path(config["folder"]), first, save, beat=lambda: None)


def serve(order: StageOrder, control: Control) -> StageResult:
    """As a runner's work."""
    saved = Path(order.run_folder, "saved")

    def save(step: int) -> None:
        if dist.get_rank() == 0:
            saved.with_name("saved.new").write_text(str(step))
            saved.with_name("saved.new").replace(saved)
        dist.barrier()

    first = int(saved.read_text()) if saved.exists() else 0
    _take_steps(Path(order.run_folder), first, save, beat=lambda: control.beat("step"))
    return StageResult(order.stage, "load", _PLAN["toy"].key, "done", None)


def _take_steps(folder: Path, first: int, save: Callable[[int], None], *, beat: Callable[[], None]) -> None:
    rank = dist.get_rank()
    (folder / f"pid-{rank}").write_text(str(os.getpid()))
    for step in range(first + 1, 100_000):
        time.sleep(0.05)
        enough = torch.tensor([int((folder / "enough").exists())])
        dist.all_reduce(enough)
        beat()
        if rank == 0:
            with (folder / "steps").open("a") as file:
                file.write(f"{time.time()} {step}\n")
        if step % 10 == 0:
            save(step)
        if enough:
            return
