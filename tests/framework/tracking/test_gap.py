"""The share of the loss gap that healing has closed, and when none is reported."""

from __future__ import annotations

import math

import pytest

from espalier.stages.result import Measurements
from espalier.tracking.gap import gap_closed, gap_words, told_gap


def closed(parent: float, slim: float, heal: float, pruned: tuple[str, ...] = ("slim",)) -> float | None:
    return gap_closed({"heal": heal, "parent": parent, "slim": slim}, model="heal", pruned=pruned)


def test_the_gap_closed_is_a_share_of_the_loss_that_pruning_added() -> None:
    assert closed(3.0, 4.0, 3.25) == 0.75
    assert closed(3.0, 4.0, 5.0) == -1.0 and closed(3.0, 4.0, 2.0) == 2.0
    assert gap_words(0.75) == "closed 75 % of the gap" and gap_words(-1.0) == "widened by 100 % the gap"


@pytest.mark.parametrize(
    "losses",
    [
        (4.0, 3.0, 3.0),  # the pruned model is the better one
        (3.0, 3.0005, 3.0005),  # pruning has cost nothing that could be told from chance
        (3.0, math.inf, 3.5),
        (3.0, math.nan, 3.5),
    ],
)
def test_a_gap_of_nearly_zero_gives_no_share(losses: tuple[float, float, float]) -> None:
    assert closed(*losses) is None


def test_models_that_were_not_pruned_have_no_gap() -> None:
    assert closed(3.0, 4.0, 3.25, pruned=()) is None
    assert closed(3.0, 4.0, 3.25, pruned=("slim", "parent")) is None


def test_a_recorded_share_is_not_shown_when_the_gap_is_too_small() -> None:
    models = {"heal": {"nll": 3.0}, "parent": {"nll": 3.0001}, "slim": {"nll": 3.0}}
    assert told_gap(Measurements("heal", models, gap_closed=1.0)) is None
    models["slim"]["nll"] = 4.0
    assert told_gap(Measurements("heal", models, gap_closed=0.5)) == 0.5
    assert told_gap(Measurements("heal", models, gap_closed=None)) is None
    assert told_gap(Measurements("heal", models, gap_closed=math.nan)) is None
