"""Stages that train a part of a model, in a job from its file on: what they save, stand on, and hand to others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from espalier.checkpoint.read import StateReader
from espalier.distributed.world import World
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.storage.local import LocalStorage
from espalier.worker.run_stage import run_stage
from support.growing import run_whole_and_in_pieces, trained
from support.spawn import run_ranks
from support.tiny import write_job
from support.whole_run import plan_job, recorded_steps, run_job

RUN = Path("runs", "tiny")
ATTENTION, NORMS, MLP = "*.q_proj.*", "*norm*", "*.2.mlp.*"
# without a floor under the loss, the divergence of near models is all rounding
LOSSES = [{"function": "forward_kl"}, {"function": "cross_entropy", "weight": 0.1}]
Run = tuple[Path, dict[str, Any]]


def stages_of(root: Path, *, zero_level: str = "none") -> list[Any]:
    level = {"zero_level": zero_level}
    return [
        {"name": "parent", "kind": "load", "model": str(root / "model")},
        trained("first", "parent", tune={"only": [ATTENTION, NORMS]}, **level),
        trained("again", "first", tune={"only": [NORMS]}, optimizer_state="keep", **level),
        trained("other", "again", kind="distill", teacher="parent", losses=LOSSES, tune={"only": [MLP]}, **level),
        {"name": "deep", "kind": "grow", "student": "other", "target": {"layers": 6}, "operator": "interpolate"},
        {
            "name": "slim",
            "kind": "prune",
            "student": "other",
            "target": {"layers": 2},
            "calibration": {"samples": 4, "microbatch_sequences": 2},
        },
        {"name": "score", "kind": "evaluate", "model": "other", "against": ["parent", "deep", "slim"], "sequences": 6},
        {"name": "out", "kind": "export", "model": "other", "dtype": "float32"},
    ]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """Without interruption, and stopped after every step."""
    roots = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("pieces")
    jobs = [str(write_job(root, stages=stages_of(root))) for root in roots]
    results = run_ranks(run_whole_and_in_pieces, 1, *jobs)[0]
    return (roots[0], results[0]), (roots[1], results[1])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("two")
    job = write_job(root, stages=stages_of(root, zero_level="parameters"), workers={"count": 2})
    return root, run_ranks(run_job, 2, str(job))[0]


def state(run: Run, stage: str) -> StateReader:
    return StateReader.open(LocalStorage(run[0] / RUN), run[1][stage]["checkpoint"])


def test_what_is_saved_is_what_was_trained(both: tuple[Run, Run]) -> None:
    run = both[0]
    first, again, other = (state(run, name) for name in ("first", "again", "other"))
    is_norm, is_query = (lambda name: "norm" in name), (lambda name: ".q_proj." in name)
    for slot in ("parameter", "exp_avg", "exp_avg_sq"):
        assert all(is_norm(name) or is_query(name) for name in first.manifest.tensors[slot])
        assert all(is_norm(name) for name in again.manifest.tensors[slot])
        assert all(".2.mlp." in name for name in other.manifest.tensors[slot])
    folders = [base.folder for base in other.manifest.bases]
    assert folders == [run[1][name]["checkpoint"] for name in ("again", "first", "parent")]
    for name in other.shapes:
        holder = other if ".2.mlp." in name else again if is_norm(name) else first if is_query(name) else None
        wanted = (holder or state(run, "parent")).tensor("parameter", name)
        assert torch.equal(other.tensor("parameter", name), wanted)
    assert run[1]["first"]["metrics"]["trained_parameters"] == sum(
        first.tensor("parameter", name).numel() for name in first.manifest.tensors["parameter"]
    )


def test_kept_moments_are_used(both: tuple[Run, Run]) -> None:
    assert state(both[0], "again").manifest.state["updates"] == 8
    assert both[0][1]["deep"]["metrics"]["moments"] is False, "those of a part do not grow"
    assert state(both[0], "deep").slots == ("parameter",)


def test_stopped_after_every_step_it_ends_in_the_same_bits(both: tuple[Run, Run]) -> None:
    whole, pieces = both
    for name in ("first", "again", "other", "deep", "slim"):
        one, other = state(whole, name), state(pieces, name)
        assert one.shapes == other.shapes
        assert all(torch.equal(one.tensor("parameter", key), other.tensor("parameter", key)) for key in one.shapes)


def test_two_ranks_that_share_everything_learn_the_same(both: tuple[Run, Run], two: Run) -> None:
    pairs = list(zip(recorded_steps(both[0][0] / RUN), recorded_steps(two[0] / RUN), strict=True))
    for single, double in pairs:
        assert double["loss"] == pytest.approx(single["loss"], rel=1e-5)
        assert double["gradient_norm"] == pytest.approx(single["gradient_norm"], rel=1e-4)
    for name in ("other", "deep", "slim", "parent"):
        single, double = (run[1]["score"]["metrics"]["models"][name] for run in (both[0], two))
        assert double["perplexity"] == pytest.approx(single["perplexity"], rel=1e-5)


def test_an_export_is_the_whole_model(both: tuple[Run, Run]) -> None:
    run = both[0]
    stock = AutoModelForCausalLM.from_pretrained(run[0] / RUN / "exports" / "out")
    reader = state(run, "other")
    for name, value in stock.named_parameters():
        assert torch.equal(value, reader.tensor("parameter", name))


def do_again(world: World, job_file: str, stages: list[str], attempt: int) -> dict[str, Any]:
    folder, _ = plan_job(world, job_file)
    results = [run_stage(StageOrder(str(folder), stage, attempt), world, Control()) for stage in stages]
    return {result.stage: result.to_json() for result in results}


def test_a_state_stays_as_long_as_another_stands_on_it(tmp_path: Path) -> None:
    stages = stages_of(tmp_path)[:4]
    job = str(write_job(tmp_path, stages=stages))
    before = run_ranks(do_again, 1, job, ["parent", "first", "again", "other"], 1)[0]
    stages[1]["budget"] = {"steps": 6}
    write_job(tmp_path, stages=stages)
    after = run_ranks(do_again, 1, job, ["first"], 2)[0]
    storage = LocalStorage(tmp_path / RUN)
    old, new = before["first"]["checkpoint"], after["first"]["checkpoint"]
    assert old != new and StateReader.open(storage, before["other"]["checkpoint"]), "saves on the way left it alone"
    run_ranks(do_again, 1, job, ["again", "other"], 3)
    assert not storage.exists(old), "nobody stands on it any more"
    assert StateReader.open(storage, new)
