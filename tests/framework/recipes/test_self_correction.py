"""The stages of `self_correction`, and the budget of its fold models."""

from __future__ import annotations

from typing import Any

import pytest

from espalier.kinds.correct.kind import CorrectStage
from espalier.kinds.cross_fit.kind import CrossFitStage
from espalier.recipes.self_correction import SelfCorrection, stages


def made(**dials: Any) -> dict[str, Any]:
    needed = {
        "name": "self_correction",
        "model": "./encoder",
        "budget": {"epochs": 3},
        "batch": {"sequences": 4},
        "optimizer": {"lr": 1e-4},
    }
    return {stage.name: stage for stage in stages(SelfCorrection.model_validate(needed | dials), 128)}


def test_the_student_is_corrected_by_fold_models_and_measured_beside_plain_fine_tuning() -> None:
    found = made()
    assert list(found) == ["parent", "plain", "twins", "corrected", "scores", "exported"]
    assert isinstance(found["twins"], CrossFitStage) and isinstance(found["corrected"], CorrectStage)
    assert (found["corrected"].teacher, found["scores"].against) == ("twins", ("plain",))
    assert list(made(baseline=False)) == ["parent", "twins", "corrected", "scores", "exported"]


def test_fold_models_are_not_given_settings_that_they_do_not_read() -> None:
    found = made(validation={}, guard={"nan": "skip"}, checkpoint={"every": 7})
    for name in ("plain", "corrected"):
        assert (found[name].checkpoint.every, found[name].guard.nan) == (7, "skip")
        assert found[name].validation is not None
    assert found["twins"] == made()["twins"]


@pytest.mark.parametrize(
    ("budget", "share", "expected"),
    [
        ({"epochs": 3}, 0.5, {"epochs": 1.5}),
        ({"epochs": 3}, 1.0, {"epochs": 3.0}),
        ({"steps": 101}, 0.5, {"steps": 50}),
        ({"steps": 1}, 0.1, {"steps": 1}),
        ({"tokens": 1000}, 0.25, {"tokens": 250}),
    ],
)
def test_fold_models_train_for_their_share_of_the_budget(
    budget: dict[str, Any], share: float, expected: dict[str, Any]
) -> None:
    found = made(budget=budget, fold_budget=share)
    assert found["twins"].budget.model_dump(exclude_none=True) == expected
    assert found["corrected"].budget == found["plain"].budget
    assert found["plain"].budget.model_dump(exclude_none=True) == budget
