"""A stage whose input is not as it was written says which checkpoint, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from espalier.distributed.world import World
from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.worker.run_stage import run_stage
from support.tiny import write_job
from support.whole_run import plan_job


def test_a_damaged_input_is_named_with_a_remedy_that_works(tmp_path: Path) -> None:
    world = World.alone()
    folder, stages = plan_job(world, str(write_job(tmp_path)))
    run_stage(StageOrder(str(folder), stages[0], 1), world, Control())
    (file,) = (folder / "stages" / "parent").glob("step-*/*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StageFailed, match=r"cannot be used: .*remove `stages/parent` from the run's folder") as failed:
        run_stage(StageOrder(str(folder), stages[1], 2), world, Control())
    assert failed.value.cause == "error" and failed.value.may_pass(None)
