"""The state of a `correct` stage goes on from its tables with the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from correction_cases import (
    CLASSES,
    NUMBERS,
    TARGETS,
    answers,
    correction,
    revise,
    stage,
    state,
)

ALONE = {"teacher": None, "signal": {"own_past": [0.5, 1.0], "momentum": 0.25}}
PAST = {"signal": {"own_past": [0.25, 0.75], "momentum": 0.5}, "distrust": {"epochs": 1, "rule": "persistent"}}
ROUND_TRIPS: dict[str, tuple[dict[str, Any], bool, int]] = {
    "teacher": ({}, True, CLASSES),
    "teacher and past": (PAST, True, CLASSES),
    "past alone": (ALONE, False, CLASSES),
    "labels alone": (
        {"teacher": None, "signal": {"weight": 0.0}, "weights": {"disagreement": "label"}},
        False,
        CLASSES,
    ),
    "regression": ({**PAST, "weights": {"measure": "probability"}}, True, 1),
}


@pytest.mark.parametrize("epochs", [0, 1, 3])
@pytest.mark.parametrize("case", ROUND_TRIPS)
def test_a_resumed_state_goes_on_with_the_same_bits(case: str, epochs: int) -> None:
    settings, has_teacher, width = ROUND_TRIPS[case]
    targets = TARGETS if width > 1 else NUMBERS
    config, teacher = stage(**settings), answers(99, width=width) if has_teacher else None
    whole = correction(config, targets=targets, teacher=teacher, excluded=[4])
    for epoch in range(epochs):
        revise(whole, epoch, width=width)
    kept = {name: table.clone() for name, table in whole.tables().items()}
    resumed = correction(config, targets=targets, excluded=[4])
    resumed.restore({name: table.clone() for name, table in kept.items()})
    for mine, theirs in zip(state(resumed), state(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for epoch in range(epochs, epochs + 2):
        here, there = (revise(one, epoch, width=width) for one in (whole, resumed))
        assert here.figures == there.figures
        for name, column in vars(here.table).items():
            np.testing.assert_array_equal(column, vars(there.table)[name], err_msg=name)
        for mine, theirs in zip(state(resumed), state(whole), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert resumed.tables().keys() == whole.tables().keys()
    for name, table in kept.items():
        assert table.dtype in (torch.float64, torch.float32), name


def test_saved_tables_do_not_change_later() -> None:
    found = correction(stage(), teacher=answers(99))
    revise(found, 1)
    tables = found.tables()
    kept = {name: table.clone() for name, table in tables.items()}
    revise(found, 2)
    assert all(torch.equal(tables[name], kept[name]) for name in tables)
    assert not torch.equal(found.tables()["weights"], kept["weights"])
