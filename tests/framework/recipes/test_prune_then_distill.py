"""The stages that the dials of prune_then_distill become."""

from __future__ import annotations

from typing import Any

from espalier.jobs.job import Job
from espalier.jobs.recipe import stages_of
from espalier.kinds.distill.kind import DistillStage
from espalier.kinds.prune.kind import PruneStage
from espalier.stages.plan import build_plan

DIALS = {
    "name": "prune_then_distill",
    "model": "owner/model",
    "target": {"parameters": "95M"},
    "budget": {"steps": 13},
    "batch": {"sequences": 6, "microbatch_sequences": 3},
}


def job(**settings: Any) -> Job:
    data = {"train": {"source": "text", "files": ["/a"]}, "valid": {"fraction": 0.1}}
    return Job.model_validate({"name": "slim", "storage": "/runs", "data": data, **settings})


def test_the_recipe_makes_a_plan_from_the_parent_to_the_export() -> None:
    plan = build_plan(stages_of(job(recipe=DIALS)), context={})
    assert [stage.config.kind for stage in plan.stages] == ["load", "prune", "distill", "evaluate", "export"]
    assert [stage.name for stage in plan.lineage("exported")] == ["parent", "pruned", "healed", "exported"]
    assert plan["scores"].inputs == ("healed", "parent", "pruned")


def test_every_setting_of_a_recipe_reaches_its_stage() -> None:
    turned = {
        **DIALS,
        "calibration": {"samples": 7},
        "optimizer": {"lr": 3e-4},
        "zero_level": "parameters",
        "teacher_zero_level": "parameters",
        "activation_checkpointing": True,
        "checkpoint": {"every": 5},
        "evaluation_sequences": 11,
        "prompts": ["Once"],
        "gate": {"perplexity_ratio": {"max": 1.5}},
        "export_dtype": "float32",
    }
    plain, changed = stages_of(job(recipe=DIALS)), stages_of(job(recipe=turned))
    moved = {
        f"{before.name}.{setting}"
        for before, after in zip(plain, changed, strict=True)
        for setting, value in before.model_dump().items()
        if value != after.model_dump()[setting]
    }
    assert moved == {
        "pruned.calibration", "healed.optimizer", "healed.zero_level", "healed.teacher_zero_level",
        "healed.activation_checkpointing", "healed.checkpoint", "scores.sequences", "scores.prompts",
        "scores.gate", "exported.dtype",
    }  # fmt: skip


def test_the_student_is_healed_by_its_own_parent_on_logits_alone() -> None:
    _, pruned, healed, _, _ = stages_of(job(recipe=DIALS))
    assert isinstance(pruned, PruneStage) and pruned.target.parameters == 95_000_000
    assert isinstance(healed, DistillStage) and (healed.student, healed.teacher) == ("pruned", "parent")
    assert [loss.function for loss in healed.losses] == ["forward_kl"]


def test_listed_stages_stay_as_they_are() -> None:
    listed = job(stages=[{"name": "a", "kind": "load", "model": "owner/model"}])
    assert stages_of(listed) == listed.stages
