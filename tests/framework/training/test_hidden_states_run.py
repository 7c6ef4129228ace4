"""A distillation with losses of hidden states: it goes on with other workers and levels, and its export is plain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from espalier.checkpoint.read import StateReader
from espalier.config.faults import RefusedInput
from espalier.distributed.world import World
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.storage.local import LocalStorage
from espalier.worker.run_stage import run_stage
from support.scenes import Scene, at, outcome, play, prepare_ground
from support.spawn import run_ranks
from support.tiny import tiny_job, write_job

STEPS = 8
PROJECTIONS = {"projections.1-1.weight", "projections.2-3.weight"}
HIDDEN = {"function": "hidden_mse", "layers": [[1, 1], [2, 3]], "weight": 0.5}
SETTINGS = {
    "budget": {"steps": STEPS},
    "checkpoint": {"every": 50},
    "losses": [{"function": "forward_kl"}, HIDDEN, {"function": "cross_entropy", "weight": 0.1}],
}


def part(world: World, root: str, settings: dict[str, Any], attempt: int, until: int) -> str:
    if attempt == 1:
        prepare_ground(world, root, SETTINGS)
    return play(world, root, Scene(settings, at(until, _stop), attempt=attempt))


def _stop(rank: int, control: Control, report: Any) -> Any:
    control.stop.set()
    return report


def saved(root: Path, step: int) -> StateReader:
    return StateReader.open(LocalStorage(root / "runs" / "tiny"), f"stages/heal/step-{step:08d}")


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never stopped, on one worker."""
    root = tmp_path_factory.mktemp("still")
    assert run_ranks(part, 1, str(root), {"zero_level": "none"}, 1, STEPS + 1) == ["done"]
    return root


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two workers, then one that shards, then two again."""
    root = tmp_path_factory.mktemp("moved")
    starts = [(2, "optimizer", 3), (1, "parameters", 5), (2, "parameters", STEPS + 1)]
    for attempt, (workers, level, until) in enumerate(starts, start=1):
        ended = run_ranks(part, workers, str(root), {"zero_level": level}, attempt, until)
        assert all(one.startswith("done" if until > STEPS else "stopped") for one in ended)
    return root


def test_it_goes_on_with_other_workers_and_levels(still: Path, moved: Path) -> None:
    there, here = outcome(str(still))["steps"], outcome(str(moved))["steps"]
    assert list(here) == list(there) == list(range(1, STEPS + 1))
    for step in there:
        assert here[step][0] == pytest.approx(there[step][0], rel=1e-5)
    one, other = saved(still, STEPS), saved(moved, STEPS)
    for name in PROJECTIONS:
        torch.testing.assert_close(other.tensor("parameter", name), one.tensor("parameter", name), rtol=1e-4, atol=1e-6)


def test_projections_are_trained_and_no_part_of_the_model(still: Path) -> None:
    state = saved(still, STEPS)
    assert set(state.manifest.beside) == PROJECTIONS and not PROJECTIONS & set(state.shapes)
    for name in PROJECTIONS:
        assert (state.tensor("parameter", name) - torch.eye(36)).abs().max() > 1e-4
        assert state.tensor("exp_avg", name).abs().max() > 0


def test_a_resume_on_the_same_workers_ends_in_the_same_bits(still: Path, tmp_path: Path) -> None:
    for attempt, until in ((1, 3), (2, STEPS + 1)):
        run_ranks(part, 1, str(tmp_path), {"zero_level": "none"}, attempt, until)
    one, other = saved(still, STEPS), saved(tmp_path, STEPS)
    for slot in one.slots:
        for name in one.names(slot):
            assert torch.equal(one.tensor(slot, name), other.tensor(slot, name)), (slot, name)


def test_the_export_loads_in_stock_transformers(moved: Path) -> None:
    run = moved / "runs" / "tiny"
    run_stage(StageOrder(str(run), "out", 1), World(0, 1, torch.device("cpu")), Control())
    model, info = AutoModelForCausalLM.from_pretrained(run / "exports" / "out", output_loading_info=True)
    assert not (info["missing_keys"] or info["unexpected_keys"])
    state = saved(moved, STEPS)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, state.tensor("parameter", name))


@pytest.mark.parametrize(
    ("losses", "wanted"),
    [
        ([HIDDEN], "`stages.heal.losses` is ['hidden_mse']; allowed: a loss of logits beside those of hidden states"),
        (
            [{"function": "forward_kl"}, HIDDEN | {"layers": [[1, 1], [3, 3]]}],
            "`stages.heal.losses[1].layers[1]` is [3, 3]; allowed: 1 to 2 for the student.",
        ),
        (
            [{"function": "forward_kl"}, HIDDEN | {"layers": [[1, 4]]}],
            "`stages.heal.losses[1].layers[0]` is [1, 4]; allowed: 1 to 3 for the teacher.",
        ),
        (
            [{"function": "forward_kl"}, HIDDEN | {"projection": "none"}],
            "`stages.heal.losses[1].projection` is 'none'; allowed: learned, as the student is 30 wide and the teacher",
        ),
        (
            [{"function": "forward_kl"}, HIDDEN | {"layers": [[1, 1], [1, 1]]}],
            "`stages.heal.losses[1].layers` (line 36) is [[1, 1], [1, 1]]; allowed: each pair once.",
        ),
    ],
)
def test_what_does_not_fit_the_models_is_refused_before_anything_starts(
    tmp_path: Path, losses: list[dict[str, Any]], wanted: str
) -> None:
    stages = tiny_job(tmp_path)["stages"]
    stages[1]["target"] = {"layers": 2, "hidden": 30}
    stages[2]["losses"] = losses
    with pytest.raises(RefusedInput) as refused:
        prepare(read_job(write_job(tmp_path, stages=stages)))
    (fault,) = refused.value.faults
    assert str(fault).startswith(wanted)
