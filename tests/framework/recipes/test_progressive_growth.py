"""The stages that the dials of progressive_growth become: published presets, boundaries, one schedule over all."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from espalier.config.faults import RefusedInput
from espalier.engine.schedule import learning_rate
from espalier.jobs.job import Job
from espalier.jobs.load import read_job
from espalier.jobs.recipe import stages_of
from espalier.jobs.schema import resolved
from espalier.kinds.grow.kind import GrowStage
from espalier.kinds.train.kind import TrainStage
from espalier.recipes.growth_presets import g_stack_tokens
from espalier.stages.plan import build_plan

_SHAPE = {"family": "llama", "layers": 12, "hidden": 36, "heads": 6, "train_tokenizer": {"vocabulary": 300}}


def settings(**dials: Any) -> dict[str, Any]:
    recipe = {
        "name": "progressive_growth",
        "from_scratch": _SHAPE,
        "budget": {"steps": 1000},
        "batch": {"sequences": 6},
        **dials,
    }
    data = {"train": {"source": "text", "files": ["/a"]}, "valid": {"fraction": 0.1}, "sequence_tokens": 64}
    return {"name": "grown", "storage": "/runs", "data": data, "recipe": recipe}


def job(**dials: Any) -> Job:
    return Job.model_validate(settings(**dials))


def phases(**dials: Any) -> list[TrainStage]:
    return [stage for stage in stages_of(job(**dials)) if isinstance(stage, TrainStage) and stage.name != "baseline"]


@pytest.mark.parametrize(
    ("preset", "names", "steps"),
    [
        ("apollo", ["layers_1", "layers_3", "layers_6", "layers_12"], [50, 50, 150, 750]),
        ("late_stack", ["layers_3", "layers_6", "layers_12"], [300, 200, 500]),
        ("gradual_stack", ["layers_3", "layers_6", "layers_12"], [150, 200, 650]),
        ("g_stack", ["layers_3", "layers_12"], [200, 800]),
        ("one_layer_to_full", ["layers_1", "layers_12"], [800, 200]),
        ("scratch", ["layers_12"], [1000]),
    ],
)
def test_presets_are_the_published_ones(preset: str, names: list[str], steps: list[int]) -> None:
    trained = phases(preset=preset)
    assert [stage.name for stage in trained] == names
    assert [stage.budget.steps for stage in trained] == steps
    assert [stage.depth_sampling is not None for stage in trained] == [preset == "apollo"] * (len(names) - 1) + [False]
    assert [stage.optimizer_state for stage in trained] == ["fresh", *["keep"] * (len(names) - 1)]
    plan = build_plan(stages_of(job(preset=preset)), context={})
    assert plan["exported"].inputs == ("layers_12",) and plan.parent("exported").config.from_scratch.layers == int(
        names[0].removeprefix("layers_")
    )
    grown = [stage for stage in stages_of(job(preset=preset)) if isinstance(stage, GrowStage)]
    assert {stage.operator for stage in grown} <= {"stack" if "stack" in preset else "interpolate"}


@pytest.mark.parametrize("schedule", ["wsd", "cosine", "linear"])
def test_one_schedule_goes_over_all_phases(schedule: str) -> None:
    optimizer = {"lr": 0.01, "schedule": schedule}
    whole = phases(preset="scratch", optimizer=optimizer)[0].optimizer
    assert whole.part is None
    parts = phases(preset="apollo", optimizer=optimizer)
    rates = chain.from_iterable(
        (learning_rate(p.optimizer, step=step, num_steps=p.budget.steps) for step in range(p.budget.steps))
        for p in parts
    )
    assert list(rates) == [learning_rate(whole, step=step, num_steps=1000) for step in range(1000)]


def test_a_phase_can_warm_up_again() -> None:
    first, second = phases(preset="g_stack", rewarm=0.1, optimizer={"lr": 0.01, "schedule": "constant", "warmup": 0.0})
    assert learning_rate(first.optimizer, step=0, num_steps=200) == 0.01
    rates = [learning_rate(second.optimizer, step=step, num_steps=800) for step in (0, 39, 79, 80)]
    assert rates == pytest.approx([0.01 / 80, 0.005, 0.01, 0.01])


def test_every_part_can_be_set_by_itself() -> None:
    trained = phases(
        depths=[2, 5, 12],
        boundaries=[0.5, "288k"],
        sampling="edge",
        operator="interpolate",
        new_moments="zero",
        optimizer_state="fresh",
    )
    assert [stage.budget.steps for stage in trained] == [500, 250, 250]
    assert [stage.depth_sampling and stage.depth_sampling.sampler for stage in trained] == ["edge", "edge", None]
    assert {stage.optimizer_state for stage in trained} == {"fresh"}


def test_a_baseline_is_trained_and_compared() -> None:
    plan = build_plan(stages_of(job(baseline=True)), context={})
    assert plan["scores"].inputs == ("layers_12", "baseline")
    assert plan["baseline"].config.budget.steps == 1000


def test_shallow_models_have_fewer_phases() -> None:
    assert [stage.name for stage in phases(preset="apollo", from_scratch=_SHAPE | {"layers": 4})] == [
        "layers_1", "layers_2", "layers_4",
    ]  # fmt: skip


def test_the_stacking_formula_gives_the_published_numbers() -> None:
    assert g_stack_tokens(8e9, 6 * 8e9 * 15e12) == pytest.approx(6.58e9, rel=0.01)
    assert g_stack_tokens(7e9, 6 * 7e9 * 2e12) == pytest.approx(11.11e9, rel=0.01)


@pytest.mark.parametrize(
    ("given", "decay"),
    [
        ({}, 0.1),
        ({"optimizer": {"lr": 0.01, "schedule": "wsd"}}, 0.1),
        ({"optimizer": {"lr": 0.01, "schedule": "wsd", "decay": 0.2}}, 0.2),
        ({"optimizer": {"lr": 0.01, "schedule": "cosine"}}, 0.2),
    ],
)
def test_one_layer_grows_while_the_rate_is_constant(given: dict[str, Any], decay: float) -> None:
    asked = job(preset="one_layer_to_full", **given)
    assert asked.recipe.optimizer.decay == decay
    assert Job.model_validate(resolved(asked)) == asked, "what is written down says it itself"
    assert job(preset="late_stack", **given).recipe.optimizer.decay == 0.2


@pytest.mark.parametrize(
    ("dials", "path", "message"),
    [
        ({"depths": [6, 3, 12], "boundaries": [0.1, 0.2]}, "depths", "layers that increase"),
        ({"depths": [3, 6], "boundaries": [0.1]}, "depths", "a last depth of from_scratch.layers 12"),
        ({"depths": [3, 12], "boundaries": [0.1, 0.2]}, "boundaries", "1 places, one between each two of the 2 depths"),
        ({"depths": [3, 12], "boundaries": ["400M"]}, "boundaries", "ascend inside the budget of 1000 steps"),
        ({"preset": "gradual_stack", "boundaries": [0.5, 0.2]}, "boundaries", "ascend inside the budget of 1000 steps"),
        ({"preset": "apollo", "operator": "random"}, "operator", "interpolate or stack"),
        ({"preset": "apollo", "zero_level": "parameters"}, "zero_level", "none, optimizer or gradients"),
        ({"sampling": "edge", "zero_level": "parameters"}, "zero_level", "or sampling: none"),
        ({"gate": {"perplexity_ratio": {"max": 1.1}}}, "baseline", "true, as gate.perplexity_ratio compares with it"),
        ({"from_scratch": _SHAPE | {"layers": 0}}, "from_scratch.layers", "a whole number above 0"),
    ],
)
def test_invalid_settings_of_the_recipe_are_refused(
    tmp_path: Path, dials: dict[str, Any], path: str, message: str
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(settings(**dials)))
    with pytest.raises(RefusedInput, match=message) as refused:
        stages_of(read_job(file))
    assert [fault.path for fault in refused.value.faults] == [f"recipe.{path}"]


def test_without_depth_sampling_parameters_may_be_sharded() -> None:
    assert phases(preset="apollo", sampling="none", zero_level="parameters")[0].zero_level == "parameters"


def test_an_invalid_stage_of_a_recipe_is_refused_with_the_recipe_s_path() -> None:
    recipe = job(preset="apollo").recipe.model_copy(update={"zero_level": "parameters"})
    with pytest.raises(RefusedInput, match="depth sampling changes that order") as refused:
        stages_of(job().model_copy(update={"recipe": recipe}))
    assert [fault.path for fault in refused.value.faults] == ["recipe.zero_level"]
