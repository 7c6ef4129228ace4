"""Steps of 20 ms for workers of a Ray group and for torchrun, and stages that say when they began and ended."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch.distributed as dist

from espalier.distributed.world import World
from espalier.jobs.job import RetryConfig
from espalier.kinds.load.kind import LoadStage
from espalier.stages.controller import Progress, carry_out
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.stages.plan import build_plan
from espalier.stages.result import StageResult
from espalier.tracking import jsonl
from espalier_cluster.group_size import GroupSize
from espalier_cluster.ray_runner import RayRunner

STEP_SECONDS = 0.02
STAGES = ("first", "second", "third")
PLAN = build_plan([LoadStage(name=name, kind="load", model="/none") for name in STAGES], context={})


def take_steps(folder: Path, control: Control, num_steps: int) -> float:
    """Seconds of steps that do what every step of the product does beside computing: the clock of its phase, the
    all-reduce that spreads wishes, a line of the record.
    """
    world, began = World.from_process_group(), time.perf_counter()
    for step in range(num_steps):
        control.beat("step")
        time.sleep(STEP_SECONDS)
        world.sum_flags(control.stop.is_set(), control.preempted.is_set(), False, False)
        if world.is_rank_zero:
            jsonl.append(folder / "steps.jsonl", {"step": step, "time": time.time()})
    return time.perf_counter() - began


def serve(order: StageOrder, control: Control) -> StageResult:
    """As a runner's work; how many steps stands in the folder."""
    folder, began = Path(order.run_folder), time.time()
    World.from_process_group().barrier()
    seconds = take_steps(folder, control, int((folder / "num_steps").read_text()))
    World.from_process_group().barrier()
    if dist.get_rank() == 0:
        jsonl.append(folder / "stages.jsonl", {"began": began, "ended": time.time(), "seconds": seconds})
    return StageResult(order.stage, "load", PLAN[order.stage].key, "done", None)


def with_ray(folder: Path, size: GroupSize, num_steps: int) -> list[dict[str, float]]:
    """When each stage began and ended, and the seconds of its steps, on the cluster that this process has joined."""
    (folder / "num_steps").write_text(str(num_steps))
    runner = RayRunner(size, str(folder), work="twenty_ms_steps:serve")
    carry_out(PLAN, runner, run_folder=str(folder), earlier=Progress({}), retry=RetryConfig())
    runner.close()
    return [json.loads(line) for line in (folder / "stages.jsonl").read_text().splitlines()]


def main() -> None:
    """Under torchrun: a folder and a number of steps; rank zero prints the seconds."""
    dist.init_process_group("gloo")
    World.from_process_group().barrier()
    seconds = take_steps(Path(sys.argv[1]), Control(), int(sys.argv[2]))
    if dist.get_rank() == 0:
        print(seconds)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
