"""The losses of a regression against autograd and by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from espalier.objectives.chunked import Targets, head_objective, token_losses
from espalier.objectives.gradients import logits_gradient, scaled_gradient, token_values
from espalier.objectives.signal import Signal
from espalier.objectives.terms import Term

ERROR, DISTANCE = Term.of("squared_error"), Term.of("squared_distance")
NAN = float("nan")


def normal(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_values_by_hand() -> None:
    student, teacher = torch.tensor([[1.0], [-2.0]]), torch.tensor([[4.0], [-2.5]])
    labels = torch.tensor([3.0, 0.5])
    assert token_values(ERROR, student, teacher_logits=None, labels=labels).tolist() == [4.0, 6.25]
    assert token_values(DISTANCE, student, teacher_logits=teacher, labels=labels).tolist() == [9.0, 0.25]
    values, gradient = logits_gradient(ERROR, student.clone(), teacher_logits=None, labels=labels)
    assert values.tolist() == [4.0, 6.25] and gradient.tolist() == [[-4.0], [-5.0]]


@pytest.mark.parametrize("term", [ERROR, DISTANCE], ids=lambda term: term.function)
def test_closed_form_is_the_derivative_of_the_value(term: Term) -> None:
    student, teacher, labels = 3.0 * normal(7, 1), normal(7, 1, seed=4), normal(7, seed=5)
    leaf = student.clone().requires_grad_()
    right = token_values(term, leaf, teacher_logits=teacher, labels=labels)
    values, gradient = logits_gradient(term, student.clone(), teacher_logits=teacher.clone(), labels=labels)
    torch.testing.assert_close(values, right.detach(), rtol=1e-14, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(right.sum(), leaf)[0], rtol=1e-14, atol=0)


@pytest.mark.parametrize("terms", [(ERROR, DISTANCE), (DISTANCE, ERROR), (DISTANCE, DISTANCE)])
@pytest.mark.parametrize("own", [False, True])
def test_several_terms_add_with_their_factors(terms: tuple[Term, ...], own: bool) -> None:
    student, teacher, labels = normal(7, 1), normal(7, 1, seed=4), normal(7, seed=5)
    factors = [normal(7, 1, seed=6 + number) for number in range(2)] if own else [0.5, 3.0]
    values, total = scaled_gradient(terms, factors, student.clone(), teacher_logits=teacher.clone(), labels=labels)
    alone = [logits_gradient(t, student.clone(), teacher_logits=teacher.clone(), labels=labels) for t in terms]
    torch.testing.assert_close(values, torch.stack([value for value, _ in alone]))
    scaled = sum(factor * gradient for factor, (_, gradient) in zip(factors, alone, strict=True))
    torch.testing.assert_close(total, scaled if own else scaled / factors[0])


@pytest.mark.parametrize("chunk_tokens", [2, None])
def test_the_head_of_a_regression(chunk_tokens: int | None) -> None:
    """Values at the tokens that count, by autograd over a plain linear map; labels elsewhere are NaN."""
    hidden, weight, bias = (normal(*shape).requires_grad_() for shape in ((11, 5), (1, 5), (1,)))
    there, answers = torch.arange(11) % 3 == 0, normal(11, 1, seed=8)
    labels = normal(11, seed=9).masked_fill(~there, NAN)
    weights = (normal(11, seed=10).abs() + 0.1).masked_fill(~there, 0.0)
    targets = Targets(labels, weights, Signal(answers, torch.eye(1, dtype=torch.float64)))
    loss = head_objective(
        hidden, weight, bias, targets=targets, terms=(ERROR, DISTANCE), scales=(0.7, 0.2), chunk_tokens=chunk_tokens
    )
    found = (hidden @ weight.t() + bias)[there, 0]
    squares = torch.stack([(found - labels[there]) ** 2, (found - answers[there, 0]) ** 2])
    right = squares @ weights[there].double()
    torch.testing.assert_close(loss.sums, right.detach())
    total = 0.7 * right[0] + 0.2 * right[1]
    leaves = (hidden, weight, bias)
    torch.testing.assert_close(torch.autograd.grad(loss.total, leaves), torch.autograd.grad(total, leaves))
    assert loss.num_tokens == 4
    got = token_losses(hidden, weight, bias, targets=targets, term=ERROR)
    torch.testing.assert_close(got[there], squares[0].detach())
    assert not got[~there].any()


def test_gradcheck() -> None:
    hidden, weight, bias = (normal(*shape).requires_grad_() for shape in ((5, 3), (1, 3), (1,)))
    weights = torch.stack([normal(5).abs(), normal(5, seed=1).abs()])
    targets = Targets(normal(5, seed=2), weights, Signal(normal(5, 1), torch.eye(1, dtype=torch.float64)))

    def total(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        terms, scales = (ERROR, DISTANCE), (0.7, 0.2)
        return head_objective(hidden, weight, bias, targets=targets, terms=terms, scales=scales).total

    assert torch.autograd.gradcheck(total, (hidden, weight, bias))


def test_only_the_distance_needs_a_teacher() -> None:
    assert not ERROR.needs_teacher and DISTANCE.needs_teacher
    with pytest.raises(AssertionError, match="squared_distance needs a teacher"):
        token_values(DISTANCE, normal(2, 1), teacher_logits=None, labels=normal(2))
