"""The graph of stages: its faults, its order, and keys that change with the result alone."""

from __future__ import annotations

from typing import Any

import pytest

from espalier.config.faults import RefusedInput
from espalier.jobs.stage import StageSettings
from espalier.kinds.distill.kind import DistillStage
from espalier.kinds.evaluate.kind import EvaluateStage
from espalier.kinds.export.kind import ExportStage
from espalier.kinds.load.kind import LoadStage
from espalier.kinds.prune.kind import PruneStage
from espalier.stages.plan import Plan, build_plan


def load(name: str = "parent", **settings: Any) -> StageSettings:
    return LoadStage.model_validate({"name": name, "kind": "load", "model": "owner/model", **settings})


def prune(name: str = "slim", **settings: Any) -> StageSettings:
    dials = {"student": "parent", "target": {"ffn": 7}}
    return PruneStage.model_validate({"name": name, "kind": "prune", **dials, **settings})


def distill(name: str = "heal", **settings: Any) -> StageSettings:
    dials = {"budget": {"steps": 5}, "batch": {"sequences": 3}, "optimizer": {"lr": 1e-4}}
    return DistillStage.model_validate(
        {"name": name, "kind": "distill", "student": "slim", "teacher": "parent", **dials, **settings}
    )


def evaluate(name: str = "score", **settings: Any) -> StageSettings:
    return EvaluateStage.model_validate({"name": name, "kind": "evaluate", "model": "heal", **settings})


def export(name: str = "out", **settings: Any) -> StageSettings:
    return ExportStage.model_validate({"name": name, "kind": "export", "model": "heal", **settings})


def plan(*configs: StageSettings, seed: int = 17) -> Plan:
    return build_plan(configs, context={"seed": seed})


def refusal(*configs: StageSettings) -> list[str]:
    with pytest.raises(RefusedInput) as refused:
        plan(*configs)
    return [str(fault) for fault in refused.value.faults]


CHAIN = (load(), prune(), distill(), evaluate(), export())


def keys(*configs: StageSettings, seed: int = 17) -> dict[str, str]:
    return {stage.name: stage.key for stage in plan(*configs, seed=seed).stages}


def changed(*configs: StageSettings, seed: int = 17) -> set[str]:
    """The stages whose keys differ from those of CHAIN."""
    return {name for name, key in keys(*configs, seed=seed).items() if key != keys(*CHAIN)[name]}


def test_names_are_used_once() -> None:
    assert refusal(load(), load()) == ["`stages[1].name` is 'parent'; allowed: a name that no other stage has."]


def test_an_unknown_input_is_recognised() -> None:
    said = refusal(load(), prune(student="parrent"), distill(teacher="nobody"))
    assert said == [
        "`stages.slim.student` is 'parrent'; allowed: a stage of this job: parent, heal. Did you mean `parent`?",
        "`stages.heal.teacher` is 'nobody'; allowed: a stage of this job: parent, slim.",
    ]


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        ((load(), prune(student="slim")), "slim.student"),
        ((*CHAIN, export("again", model="score")), "again.model"),
        ((*CHAIN, export("again", model="out")), "again.model"),
        ((*CHAIN, prune("thin", scores="heal")), "thin.scores"),
        ((*CHAIN, evaluate("more", against=["parent", "out"])), "more.against[1]"),
    ],
)
def test_an_input_must_make_what_is_taken_from_it(wrong: tuple[StageSettings, ...], setting: str) -> None:
    said = refusal(*wrong)
    assert len(said) == 1
    assert f"`stages.{setting}` is" in said[0]
    assert "another stage of kind" in said[0]


def test_a_cycle_is_reported_without_the_stages_that_depend_on_it() -> None:
    said = refusal(load(), evaluate(), prune(student="heal"), distill())
    assert said == ["`stages` is 'heal -> slim -> heal'; allowed: stages that do not wait for one another in a circle."]


def test_all_faults_of_a_graph_are_reported_at_once() -> None:
    two = (distill("a", student="b"), distill("b", student="a"))
    three = (distill("c", student="d"), distill("d", student="e"), distill("e", student="c", teacher="a"))
    said = refusal(load(), *two, *three, distill("own", student="own"), distill("lost", student="nobody"))
    assert [line.split(";")[0] for line in said] == [
        "`stages.own.student` is 'own'",
        "`stages.lost.student` is 'nobody'",
        "`stages` is 'a -> b -> a'",
        "`stages` is 'c -> d -> e -> c'",
    ]


def test_a_name_used_twice_brings_no_other_fault() -> None:
    assert len(refusal(load(), prune(), distill("slim", student="slim", teacher="parent"), export(model="slim"))) == 1


def test_stages_come_after_their_inputs_and_otherwise_as_listed() -> None:
    assert [stage.name for stage in plan(*CHAIN).stages] == ["parent", "slim", "heal", "score", "out"]
    assert [stage.name for stage in plan(*reversed(CHAIN)).stages] == [
        "parent",
        "slim",
        "heal",
        "out",
        "score",
    ]


def test_the_order_of_the_file_does_not_change_keys() -> None:
    assert changed(*reversed(CHAIN)) == set()


def test_lineage_follows_the_student_back_to_the_loaded_model() -> None:
    chain = plan(load("other"), *CHAIN, distill("more", student="heal", teacher="other"))
    assert [stage.name for stage in chain.lineage("more")] == ["parent", "slim", "heal", "more"]
    assert chain.parent("more").name == "parent"
    assert chain["more"].inputs == ("heal", "other")


def test_when_to_save_does_not_change_keys() -> None:
    saved = distill(checkpoint={"every": 3, "keep_latest": 7})
    assert changed(load(), prune(), saved, evaluate(), export()) == set()


def test_a_stage_and_all_that_come_from_it_get_new_keys_when_it_changes() -> None:
    assert changed(load(), prune(target={"ffn": 11}), *CHAIN[2:]) == {"slim", "heal", "score", "out"}
    assert changed(load(revision="main"), *CHAIN[1:]) == {"parent", "slim", "heal", "score", "out"}
    assert changed(*CHAIN[:4], export(dtype="float32")) == {"out"}


def test_another_input_of_the_same_kind_changes_the_key() -> None:
    other = load("other", model="owner/other")
    assert keys(*CHAIN[:2], other, distill(teacher="other"))["heal"] != keys(*CHAIN)["heal"]


def test_what_every_stage_depends_on_changes_every_key() -> None:
    assert changed(*CHAIN, seed=19) == {"parent", "slim", "heal", "score", "out"}


def test_an_added_stage_changes_no_other_key() -> None:
    assert {n: k for n, k in keys(*CHAIN, evaluate("more")).items() if n != "more"} == keys(*CHAIN)
