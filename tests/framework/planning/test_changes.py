"""Settings of two jobs beside each other."""

from __future__ import annotations

from typing import Any

from espalier.jobs.job import Job
from espalier.jobs.recipe import stages_of
from espalier.planning.changes import changes_for, refused_changes
from espalier.stages.plan import build_plan

RECIPE = {
    "name": "prune_then_distill",
    "model": "owner/model",
    "target": {"ffn": 7},
    "budget": {"steps": 5},
    "batch": {"sequences": 6},
}


def job(**dials: Any) -> Job:
    text = {"source": "text", "files": ["/text/*.txt"]}
    data = {"train": text, "valid": {"fraction": 0.1}}
    return Job.model_validate({"name": "j", "storage": "/runs", "data": data, "recipe": {**RECIPE, **dials}})


def changed(stage: str, **dials: Any) -> dict[str, tuple[Any, Any, bool]]:
    old, new = job(), job(**dials)
    found = changes_for(stage, old, new, build_plan(stages_of(new), context={}))
    return {change.path: (change.old, change.new, change.alters_result) for change in found}


def test_changes_of_a_recipe_s_settings_have_the_recipe_s_path() -> None:
    assert changed("healed", budget={"steps": 11}, target={"layers": 3}) == {
        "recipe.target.ffn": (7, None, True),
        "recipe.target.layers": (None, 3, True),
        "recipe.budget.steps": (5, 11, True),
    }


def test_changes_of_later_stages_do_not_concern_a_stage() -> None:
    assert changed("healed", export_dtype="float32", evaluation_sequences=3) == {}
    assert list(changed("pruned", budget={"steps": 11}, target={"ffn": 11})) == ["recipe.target.ffn"]


def test_execution_settings_count_for_the_stage_itself_alone() -> None:
    way = {"calibration": {"microbatch_sequences": 3}, "batch": {"sequences": 6, "microbatch_sequences": 2}}
    assert changed("healed", **way) == {"recipe.batch.microbatch_sequences": (1, 2, False)}


def test_a_list_counts_as_one_setting() -> None:
    (change,) = changed("healed", losses=[{"function": "jsd"}]).items()
    assert change[0] == "recipe.losses" and change[1][1][0]["function"] == "jsd"


def test_without_a_changed_setting_the_stage_itself_is_named() -> None:
    (fault,) = refused_changes("healed", [])
    assert "`stages.healed` has checkpoints made from other text" in str(fault)
