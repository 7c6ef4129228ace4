"""A job that grows, from its file on: the same on one rank and two, resumed and not, moments carried through growth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from espalier.checkpoint.read import StateReader
from espalier.storage.local import LocalStorage
from espalier.surgery.depth_sampling import mean_depth
from support.growing import run_whole_and_in_pieces, write_growing_job
from support.spawn import run_ranks
from support.whole_run import recorded_steps, run_job

RUN = Path("runs", "tiny")
Run = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """Without interruption, and stopped after every step."""
    roots = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("pieces")
    results = run_ranks(run_whole_and_in_pieces, 1, *(str(write_growing_job(root)) for root in roots))[0]
    return (roots[0], results[0]), (roots[1], results[1])


@pytest.fixture(scope="module")
def one(both: tuple[Run, Run]) -> Run:
    return both[0]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """On two ranks, each stage sharded another way."""
    root = tmp_path_factory.mktemp("two")
    levels = ("gradients", "optimizer", "parameters")
    return root, run_ranks(run_job, 2, str(write_growing_job(root, zero_levels=levels, workers={"count": 2})))[0]


def state(run: Run, stage: str) -> StateReader:
    return StateReader.open(LocalStorage(run[0] / RUN), run[1][stage]["checkpoint"])


@pytest.mark.timeout(600)  # both jobs run in its fixtures
def test_two_sharded_ranks_draw_the_same_depths_and_learn_the_same(one: Run, two: Run) -> None:
    pairs = list(zip(recorded_steps(one[0] / RUN), recorded_steps(two[0] / RUN), strict=True))
    assert [single["depth"] for single, _ in pairs] == [double["depth"] for _, double in pairs]
    assert len({single["depth"] for single, _ in pairs[:4]}) > 1 and all(s["depth"] is None for s, _ in pairs[4:])
    for single, double in pairs:
        assert double["loss"] == pytest.approx(single["loss"], rel=1e-5)
        assert double["gradient_norm"] == pytest.approx(single["gradient_norm"], rel=1e-4)
    for name in ("last", "shallow", "slim"):
        single, double = (run[1]["score"]["metrics"]["models"][name] for run in (one, two))
        assert double["perplexity"] == pytest.approx(single["perplexity"], rel=1e-5)


def test_a_run_that_is_stopped_after_every_step_goes_on_bit_for_bit(both: tuple[Run, Run]) -> None:
    for stage in ("shallow", "deep", "later", "wide", "last"):
        hashes = [[f.xxh3 for f in state(run, stage).manifest.files.values()] for run in both]
        assert hashes[0] == hashes[1], stage
    figures = [[(s["loss"], s["lr"], s["depth"], s["flops"]) for s in recorded_steps(r / RUN)] for r, _ in both]
    assert figures[0] == figures[1]


def test_growth_keeps_the_loss_where_the_operator_keeps_the_function(one: Run) -> None:
    deep, wide = (one[1][name]["metrics"]["seam"] for name in ("deep", "wide"))
    assert deep["difference"] < 1e-4, "the grown model is its parent with shared layers unrolled"
    assert abs(deep["jump"]) > 1e-4, "and not its parent as it is"
    assert wide["difference"] < 1e-4 and abs(wide["jump"]) < 1e-5
    unrolled = one[1]["unrolled"]["metrics"]
    assert unrolled["models"]["shallow"]["layers"] == 6
    assert unrolled["perplexity_ratio"] == pytest.approx(1, abs=1e-5)


def test_moments_are_kept_through_growth(one: Run) -> None:
    before, after = state(one, "shallow"), state(one, "deep")
    name = "model.layers.{}.mlp.up_proj.weight"
    for slot in ("parameter", "exp_avg", "exp_avg_sq"):
        assert after.tensor(slot, name.format(3)).equal(before.tensor(slot, name.format(1)))
    assert after.manifest.state["updates"] == 4
    assert state(one, "later").manifest.state["updates"] == 8
    assert state(one, "last").manifest.state["updates"] == 12


def test_flops_of_all_stages_add_up(one: Run) -> None:
    steps, results = recorded_steps(one[0] / RUN), one[1]
    plan = {entry["name"]: entry for entry in json.loads((one[0] / RUN / "plan.json").read_text())}
    for stage in ("shallow", "later", "last"):
        mine = [step["flops"] for step in steps if step["stage"] == stage]
        assert mine[-1] == results[stage]["cost"]["flops"] and mine == sorted(mine)
        assert plan[stage]["shape"]["parameters"] == results[stage]["metrics"]["parameters"]
    assert plan["later"]["flops"] == results["later"]["cost"]["flops"]
    assert plan["unrolled"]["flops"] == pytest.approx(results["unrolled"]["cost"]["flops"], rel=0.02), "but for padding"
    drawn = sum(step["depth"] for step in steps[:4]) / 4
    head = plan["later"]["flops"] - 6 * (per_layer := (plan["later"]["flops"] - plan["shallow"]["flops"]) / 1.5)
    assert mean_depth("uniform", held=3, depth=6) == 4.5
    assert results["shallow"]["cost"]["flops"] == pytest.approx(head + drawn * per_layer)


def test_stock_transformers_loads_what_was_grown(one: Run) -> None:
    model = AutoModelForCausalLM.from_pretrained(one[0] / RUN / "exports" / "out", dtype=torch.float32)
    assert model.config.num_hidden_layers == 6 and model.config.intermediate_size == 106
    assert "| deep | grow | shallow |" in (one[0] / RUN / "exports" / "out" / "README.md").read_text()
