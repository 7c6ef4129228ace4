"""What a plan says of stages that train a part of their student, and what it refuses."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from espalier.config.faults import RefusedInput
from espalier.config.training import TuneConfig
from espalier.jobs.load import read_job
from espalier.kinds.train.kind import TrainStage
from espalier.models.families import layout, tuned_names
from espalier.planning.prepare import PreparedJob, prepare
from espalier.training.flop_counter import StepFlops
from espalier_cluster.show import show_plan
from support.architectures import CONFIGS
from support.growing import trained
from support.tiny import write_job

QUERIES = {"only": ["*.q_proj.*"]}
DEEP = {"name": "deep", "kind": "grow", "student": "part", "target": {"layers": 6}, "operator": "interpolate"}


def prepared(root: Path, *added: dict[str, Any], **settings: Any) -> PreparedJob:
    stages = [
        {"name": "parent", "kind": "load", "model": str(root / "model")},
        trained("whole", "parent"),
        trained("part", "parent", **{"tune": QUERIES} | settings),
        *added,
    ]
    return prepare(read_job(write_job(root, stages=stages)))


def test_costs_are_those_of_the_part(tmp_path: Path) -> None:
    plan = prepared(tmp_path)
    _, whole, part = plan.previews
    queries = sum(one.num_elements for name, one in layout(part.config).items() if ".q_proj." in name)
    assert part.trained.num_parameters == queries and whole.trained is None
    assert part.bytes_on_disk / whole.bytes_on_disk == queries / whole.parameters
    assert part.memory.weights == whole.memory.weights
    assert part.memory.moments / whole.memory.moments == queries / whole.parameters
    assert part.memory.activations < whole.memory.activations and part.memory.loss_head < whole.memory.loss_head
    ledger = StepFlops(part.stage.config, part.config, None, seed=3, sequence_tokens=32, num_steps=4)
    assert ledger.flops(4) == pytest.approx(part.flops) and part.flops < 0.8 * whole.flops
    assert part.to_json()["trained_parameters"] == queries and "trained_parameters" not in whole.to_json()
    console = Console(file=io.StringIO(), width=200)
    show_plan(console, plan)
    assert f"{queries:,} trained" in console.file.getvalue()


def test_backward_that_stops_early_costs_less(tmp_path: Path) -> None:
    part = prepared(tmp_path).previews[2]
    last = prepared(tmp_path, tune={"only": ["model.layers.2.*", "model.norm.*"]}).previews[2]
    assert last.trained.num_parameters > part.trained.num_parameters
    assert last.flops < part.flops and last.memory.activations < part.memory.activations


def test_a_pattern_that_fits_nothing_is_refused_with_the_nearest_names(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput) as refused:
        prepared(tmp_path, tune={"only": ["*norm*", "model.layers.1.self_attn.q_prj.weight", "zz"]})
    first, second = refused.value.faults
    assert first.path == "stages.part.tune.only[1]" and second.path == "stages.part.tune.only[2]"
    assert "such as model.layers.1.self_attn.q_proj.weight" in first.allowed


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        (trained("x", "part", optimizer_state="keep"), "stage part trained a part that model.embed_tokens.weight"),
        (trained("x", "part", optimizer_state="keep", tune={"only": ["*norm*"]}), "trained a part that model.layers.0"),
        (trained("x", "deep", optimizer_state="keep"), "has no optimizer's moments: .* only in part before it grew"),
    ],
)
def test_moments_of_a_part_are_not_those_of_more(tmp_path: Path, stage: dict[str, Any], reason: str) -> None:
    with pytest.raises(RefusedInput, match=reason):
        prepared(tmp_path, DEEP, stage)


def test_moments_of_a_part_are_those_of_less(tmp_path: Path) -> None:
    less = trained("x", "part", optimizer_state="keep", tune={"only": ["*.2.self_attn.q_proj.*"]})
    deep = next(one for one in prepared(tmp_path, DEEP, less).previews if one.stage.name == "deep")
    assert deep.bytes_on_disk == 4 * deep.parameters, "moments of a part do not grow"


def test_a_setting_that_is_left_out_is_not_in_the_key(tmp_path: Path) -> None:
    whole, part = (one.stage.config for one in prepared(tmp_path).previews[1:])
    assert isinstance(whole, TrainStage) and isinstance(part, TrainStage)
    assert "tune" not in whole.result_settings()
    assert part.result_settings()["tune"] == QUERIES


@pytest.mark.parametrize(
    ("model", "pattern", "embedding"),
    [
        ("llama_tied", "lm_head.weight", "model.embed_tokens.weight"),
        ("llama_tied", "*embed_tokens*", "model.embed_tokens.weight"),
        ("gpt2", "lm_head.*", "transformer.wte.weight"),
        ("bert_masked_lm", "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("bert_masked_lm", "cls.predictions.decoder.bias", "cls.predictions.bias"),
    ],
)
def test_a_tied_parameter_has_all_its_names(model: str, pattern: str, embedding: str) -> None:
    assert tuned_names(CONFIGS[model], TuneConfig(only=(pattern,))) == {embedding}


def test_a_head_of_its_own_is_trained_alone() -> None:
    assert tuned_names(CONFIGS["llama"], TuneConfig(only=("lm_head.*",))) == {"lm_head.weight"}
