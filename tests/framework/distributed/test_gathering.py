"""Ranks exchange JSON: nothing that is sent between them is unpickled."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.distributed_c10d as c10d

from espalier.distributed.world import World
from support.spawn import run_ranks
from support.tiny import tiny_job, write_job
from support.whole_run import run_job


def say_all(world: World) -> list[Any]:
    own = {"rank": world.rank, "text": "ü" * (1 + 40 * world.rank), "none": None}
    nan = world.from_rank_zero(math.nan if world.is_rank_zero else object)
    return [world.gather(own), nan, world.gather(None), world.gather_on_rank_zero(b"x" * (1 + 40 * world.rank))]


def no_pickles(world: World, job_file: str) -> tuple[list[Any], dict[str, Any]]:
    """A whole job where torch's pickling of objects for a collective is an error."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("an object was pickled for a collective")

    c10d._object_to_tensor = c10d._tensor_to_object = refuse
    return say_all(world), run_job(world, job_file)


def test_one_worker_refuses_values_that_are_no_json_as_two_do() -> None:
    with pytest.raises(TypeError):
        World(0, 1, torch.device("cpu")).gather(object())


def test_values_are_gathered_by_rank_and_no_collective_pickles(tmp_path: Path) -> None:
    stages = tiny_job(tmp_path)["stages"]
    stages[2] |= {"zero_level": "parameters", "budget": {"steps": 2}, "checkpoint": {"every": 1}}
    tune = {key: value for key, value in stages[2].items() if not key.startswith("teacher")}
    stages.insert(3, tune | {"name": "tune", "kind": "train", "student": "heal", "zero_level": "gradients"})
    write_job(tmp_path, stages=stages, workers={"count": 2})
    told = run_ranks(no_pickles, 2, str(tmp_path / "job.yaml"))
    assert [on_rank_zero for (*_, on_rank_zero), _ in told] == [[b"x", b"x" * 41], []]
    for (gathered, nan, nothing, _), results in told:
        assert [one["rank"] for one in gathered] == [0, 1]
        assert [len(one["text"]) for one in gathered] == [1, 41] and math.isnan(nan) and nothing == [None, None]
        assert {result["status"] for result in results.values()} == {"done"}
