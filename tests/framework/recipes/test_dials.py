"""A fault of a stage that a recipe has made is named by a setting that the user can have written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from espalier.config.faults import Fault, RefusedInput
from espalier.config.fields import child, settings_of
from espalier.jobs.dials import dial_path, faults_of_recipe, of_recipe
from espalier.jobs.job import Job
from espalier.jobs.load import read_job
from espalier.jobs.recipe import stages_of
from espalier.planning.prepare import prepare
from support.labelled import labelled_job, write_labelled_job

TEXT = {"train": {"source": "text", "files": ["/a"]}, "valid": {"fraction": 0.1}, "sequence_tokens": 64}
LABELS = {"task": "classification", "train": {"source": "csv", "files": ["/a"]}, "valid": {"fraction": 0.1}}
SCRATCH = {"family": "llama", "layers": 12, "hidden": 36, "heads": 6, "train_tokenizer": {"vocabulary": 300}}
BATCH = {"budget": {"steps": 1000}, "batch": {"sequences": 6}}
RECIPES: dict[str, dict[str, Any]] = {
    "self_correction": {"model": "./m", **BATCH},
    "prune_then_distill": {"model": "./m", "target": {"layers": 2}, **BATCH},
    "progressive_growth": {"from_scratch": SCRATCH, "preset": "apollo", "baseline": True, **BATCH},
}


def job_of(recipe: str) -> Job:
    data = LABELS if recipe == "self_correction" else TEXT
    return Job.model_validate(
        {"name": "j", "storage": "/runs", "data": data, "recipe": {"name": recipe, **RECIPES[recipe]}}
    )


def paths(kind: Any, before: str = "") -> Iterator[str]:
    """Every setting of a class, and of the settings in it."""
    for name, field in settings_of(kind).items():
        yield f"{before}{name}"
        yield from paths(field.annotation, f"{before}{name}.")


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_setting_of_every_stage_has_a_path_that_the_recipe_takes(recipe: str) -> None:
    job, exact = job_of(recipe), 0
    for stage in stages_of(job):
        for setting in ("", *(f".{one}" for one in paths(type(stage)))):
            found = dial_path(f"stages.{stage.name}{setting}", job)
            assert found == "recipe" or found.startswith("recipe."), found
            annotation: Any = type(job.recipe)
            for part in found.split(".")[1:]:
                annotation = child(annotation, part)
                assert annotation is not None, f"{found}, of stages.{stage.name}{setting}"
            exact += found == f"recipe{setting}"
    assert exact > 40


@pytest.mark.parametrize(
    ("recipe", "path", "expected"),
    [
        ("self_correction", "stages.corrected.weights.measure", "recipe.weights.measure"),
        ("self_correction", "stages.twins.budget.steps", "recipe.fold_budget"),
        ("self_correction", "stages.corrected.budget.steps", "recipe.budget.steps"),
        ("self_correction", "stages.exported.dtype", "recipe.export_dtype"),
        ("self_correction", "stages.plain", "recipe.model"),
        ("self_correction", "stages.corrected.teacher", "recipe.model"),
        ("self_correction", "stages.else.teacher", "stages.else.teacher"),
        ("prune_then_distill", "stages.scores.sequences", "recipe.evaluation_sequences"),
        ("prune_then_distill", "stages.healed.losses[0].function", "recipe.losses[0].function"),
        ("prune_then_distill", "stages.pruned.target.layers", "recipe.target.layers"),
        ("progressive_growth", "stages.grow_3.target.layers", "recipe.depths"),
        ("progressive_growth", "stages.layers_3.depth_sampling.depth", "recipe.sampling"),
        ("progressive_growth", "stages.start.from_scratch.positions", "recipe.from_scratch.positions"),
        ("progressive_growth", "stages.start.model", "recipe.from_scratch"),
        ("progressive_growth", "data.train.files", "data.train.files"),
    ],
)
def test_the_path_is_that_of_the_dial(recipe: str, path: str, expected: str) -> None:
    assert dial_path(path, job_of(recipe)) == expected


def test_what_is_not_the_dial_s_own_value_is_told_with_its_stage() -> None:
    job = job_of("self_correction")
    said = str(of_recipe(Fault("stages.corrected.teacher", "twins", "another"), job))
    assert said == "`recipe.model` makes a stage corrected whose teacher is 'twins'; allowed: another."
    said = str(of_recipe(Fault("stages.plain", "bert", "a language model"), job))
    assert said == "`recipe.model` makes a stage plain which is 'bert'; allowed: a language model."
    assert str(of_recipe(Fault("stages.twins.folds", 9, "fewer"), job)) == "`recipe.folds` is 9; allowed: fewer."


def test_listed_stages_keep_their_paths_and_one_dial_is_named_once(tmp_path: Path) -> None:
    listed = Job.model_validate({**labelled_job(tmp_path), "storage": "/runs"})
    with pytest.raises(RefusedInput, match=r"^`stages.twins.folds` is 9"), faults_of_recipe(listed):
        raise RefusedInput([Fault("stages.twins.folds", 9, "fewer")])
    with pytest.raises(RefusedInput) as refused, faults_of_recipe(job_of("self_correction")):
        raise RefusedInput(Fault(f"stages.{one}.optimizer.offload", True, "false") for one in ("plain", "corrected"))
    assert [fault.path for fault in refused.value.faults] == ["recipe.optimizer.offload"]


def test_a_job_s_faults_are_named_by_the_recipe_s_settings(tmp_path: Path) -> None:
    recipe = {
        "name": "self_correction",
        "model": str(tmp_path / "model"),
        "budget": {"epochs": 1},
        "batch": {"sequences": 8, "microbatch_sequences": 8},
        "folds": 99,
        "optimizer": {"lr": 0.1, "offload": True},
        "weights": {"tolerance": 1.0},
        "distrust": {"exclude": str(tmp_path / "exclude.txt")},
        "gate": {"perplexity": {"max": 3.0}},
    }
    (tmp_path / "exclude.txt").write_text("nobody\n")
    path = write_labelled_job(tmp_path, stages=[], recipe=recipe)
    with pytest.raises(RefusedInput) as refused:
        prepare(read_job(path))
    assert sorted({fault.path for fault in refused.value.faults}) == [
        "recipe.distrust.exclude",
        "recipe.folds",
        "recipe.gate.perplexity",
        "recipe.optimizer.offload",
        "recipe.weights.tolerance",
    ]
    assert "stages." not in str(refused.value)
