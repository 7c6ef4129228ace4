"""One step is one step: whatever shards the model, however many ranks, wherever microbatches are cut."""

from __future__ import annotations

import pytest
import torch

from support.invariance import Case, Outcome, difference, figures_apart, join, save_models, steps_of
from support.spawn import run_ranks

_REFERENCE = Case("none", 8)
_REFERENCE_TAUGHT = Case("none", 8, tied=False, teacher="none")
_REFERENCE_ODD = Case("none", 8, odd=True)
_LEVELS = ("none", "optimizer", "gradients", "parameters")
_ODD = [Case(level, 2, odd=True) for level in _LEVELS]
_ONE = [
    _REFERENCE,
    _REFERENCE_TAUGHT,
    _REFERENCE_ODD,
    Case("none", 1),
    Case("optimizer", 2),
    Case("gradients", 2, checkpointing=True),
    Case("parameters", 4, tied=False, teacher="none"),
    *_ODD,
]
_TWO = [
    Case("none", 2),
    Case("optimizer", 1),
    Case("gradients", 2),
    Case("gradients", 4, tied=False, teacher="none"),
    Case("parameters", 1, checkpointing=True),
    Case("parameters", 2, tied=False, teacher="parameters"),
    Case("none", 4, tied=False, teacher="parameters"),
    *_ODD,
]
_ROUNDED = [Case(level, 2, dtype=torch.bfloat16) for level in _LEVELS]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, Case], Outcome]:
    root = tmp_path_factory.mktemp("models")
    save_models(root)
    found: dict[tuple[int, Case], Outcome] = {}
    for ranks, cases in ((1, [*_ONE, *_ROUNDED]), (2, [*_TWO, *_ROUNDED])):
        joined = join(run_ranks(steps_of, ranks, str(root), cases))
        found |= {(ranks, case): outcome for case, outcome in zip(cases, joined, strict=True)}
    return found


@pytest.mark.parametrize(("ranks", "case"), [*((1, case) for case in _ONE[3:]), *((2, case) for case in _TWO)])
def test_agrees_with_one_process(outcomes: dict[tuple[int, Case], Outcome], ranks: int, case: Case) -> None:
    reference = _REFERENCE_ODD if case.odd else _REFERENCE_TAUGHT if case.teacher else _REFERENCE
    assert difference(outcomes[ranks, case], outcomes[1, reference]) < 1e-5


@pytest.mark.parametrize(("ranks", "case"), [(ranks, case) for ranks in (1, 2) for case in _ROUNDED])
def test_agrees_in_bfloat16_up_to_rounding(outcomes: dict[tuple[int, Case], Outcome], ranks: int, case: Case) -> None:
    assert figures_apart(outcomes[ranks, case], outcomes[1, _REFERENCE]) < 5e-3
