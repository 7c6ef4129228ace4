"""A loss without a closed gradient: autograd, a block of rows at a time; and every closed gradient against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from naive_head import ALL_TERMS, TOKENS, Case, gradients, make_case, name
from torch import Tensor

from espalier.config.losses import LOSSES
from espalier.objectives.chunked import HeadLoss, Targets, head_objective
from espalier.objectives.gradients import autograd_gradient, logits_gradient
from espalier.objectives.head import Head
from espalier.objectives.signal import Signal
from espalier.objectives.terms import Term

SQUARES = (Term.of("squared_error"), Term.of("squared_distance"))
SCALES = tuple(0.1 + 0.2 * position for position in range(len(ALL_TERMS)))


@pytest.fixture
def without_closed_gradients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Take the closed gradients away when called."""

    def take() -> None:
        bare = {loss.name: replace(loss, gradient=None) for loss in LOSSES.values()}
        monkeypatch.setitem(LOSSES.__dict__, "_found", (bare, {}))

    yield take


def test_every_loss_of_logits_is_tested_here() -> None:
    closed = {loss.name for loss in LOSSES.values() if loss.gradient is not None}
    assert {term.function for term in (*ALL_TERMS, *SQUARES)} >= closed


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("term", [*ALL_TERMS, *SQUARES], ids=name)
def test_a_closed_gradient_is_that_of_autograd(term: Term, dtype: torch.dtype) -> None:
    draw, width = torch.Generator().manual_seed(3), 1 if term in SQUARES else 31
    student, teacher = (3.0 * torch.randn(17, width, generator=draw, dtype=torch.float64).to(dtype) for _ in range(2))
    labels = torch.randn(17, generator=draw).to(dtype) if term in SQUARES else torch.arange(17)
    values, gradient = logits_gradient(term, student.clone(), teacher_logits=teacher.clone(), labels=labels)
    right_values, right = autograd_gradient(term, student, teacher_logits=teacher, labels=labels)
    exact = dtype == torch.float64
    torch.testing.assert_close(values, right_values, rtol=1e-11 if exact else 1e-5, atol=1e-12 if exact else 1e-6)
    torch.testing.assert_close(gradient, right, rtol=1e-11 if exact else 1e-5, atol=1e-12 if exact else 1e-6)
    assert not (values.requires_grad or gradient.requires_grad or student.requires_grad)


def objective(case: Case, terms: tuple[Term, ...], scales: tuple[float, ...], chunk_tokens: int | None) -> HeadLoss:
    return head_objective(
        *(case.hidden, case.weight, case.bias),
        targets=case.targets,
        terms=terms,
        scales=scales,
        chunk_tokens=chunk_tokens,
    )


@pytest.mark.parametrize("own_weights", [False, True])
@pytest.mark.parametrize("chunk_tokens", [1, 5, None])
def test_the_chunked_head_is_the_same_without_closed_gradients(
    without_closed_gradients: Callable[[], None], own_weights: bool, chunk_tokens: int | None
) -> None:
    case = make_case()
    if own_weights:
        drawn = torch.rand(len(ALL_TERMS), TOKENS, generator=torch.Generator().manual_seed(7))
        case = replace(case, targets=replace(case.targets, weights=drawn * case.targets.weights.ne(0)))
    closed = objective(case, ALL_TERMS, SCALES, chunk_tokens)
    without_closed_gradients()
    got = objective(case, ALL_TERMS, SCALES, chunk_tokens)
    torch.testing.assert_close(got.sums, closed.sums)
    torch.testing.assert_close(gradients(got.total, case), gradients(closed.total, case))


def test_autograd_holds_no_more_than_a_chunk_of_logits(
    without_closed_gradients: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_closed_gradients()
    case, rows = make_case(), []
    logits: Callable[[Head, Tensor], Tensor] = Head.logits
    monkeypatch.setattr(Head, "logits", lambda head, hidden: rows.append(len(hidden)) or logits(head, hidden))
    objective(case, ALL_TERMS, SCALES, 4)
    counted = int(case.targets.weights.ne(0).sum())
    assert max(rows) == 4 and sum(rows) == 2 * counted  # the student's and the teacher's, once each


@pytest.mark.parametrize("chunk_tokens", [4, None])
def test_a_regression_is_the_same_without_closed_gradients(
    without_closed_gradients: Callable[[], None], chunk_tokens: int | None
) -> None:
    draw = torch.Generator().manual_seed(5)
    shapes = ((11, 5), (1, 5), (1,))
    leaves = [torch.randn(*shape, generator=draw, dtype=torch.float64).requires_grad_() for shape in shapes]
    answers = Signal(torch.randn(11, 1, generator=draw).double(), torch.eye(1, dtype=torch.float64))
    targets = Targets(torch.randn(11, generator=draw).double(), torch.rand(11, generator=draw), answers)

    def found() -> tuple[Tensor, tuple[Tensor, ...]]:
        loss = head_objective(*leaves, targets=targets, terms=SQUARES, scales=(0.7, 0.2), chunk_tokens=chunk_tokens)
        return loss.sums, torch.autograd.grad(loss.total, leaves)

    sums, right = found()
    without_closed_gradients()
    got_sums, got = found()
    torch.testing.assert_close(got_sums, sums)
    torch.testing.assert_close(got, right)


def test_a_loss_that_does_not_give_one_value_a_token_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    summed = replace(LOSSES["forward_kl"], values=lambda settings, student, *_: student.sum(), gradient=None)
    monkeypatch.setitem(LOSSES.__dict__, "_found", ({"forward_kl": summed}, {}))
    with pytest.raises(ValueError, match=r"loss forward_kl gives a tensor of shape \(\) for 4 tokens; one value for"):
        objective(make_case(), (Term.of("forward_kl"),), (1.0,), 4)


def test_a_gradient_that_autograd_broadcasts_is_made_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = replace(LOSSES["forward_kl"], values=lambda settings, student, *_: student.sum(-1), gradient=None)
    monkeypatch.setitem(LOSSES.__dict__, "_found", ({"forward_kl": linear}, {}))
    case, terms = make_case(), (Term.of("forward_kl"), Term.of("forward_kl", weight=2.0))
    weights = case.targets.weights.repeat(2, 1)
    own = replace(case, targets=replace(case.targets, weights=weights))
    for one in (case, own):
        total = objective(one, terms, (1.0, 2.0), 4).total
        right = 3.0 * (case.hidden @ case.weight.t() + case.bias).sum(-1) @ case.targets.weights.double()
        torch.testing.assert_close(gradients(total, one), gradients(right, one))
