"""Terms that weigh samples each in their own way: the sum of passes of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from naive_head import ALL_TERMS, TOKENS, Case, gradients, make_case, naive_values
from torch import Tensor

from espalier.objectives.chunked import HeadLoss, head_objective, token_losses
from espalier.objectives.terms import Term

SCALES = tuple(0.1 + 0.2 * position for position in range(len(ALL_TERMS)))
LABEL, SIGNAL = Term.of("cross_entropy"), Term.of("forward_kl", temperature=2.0)


def under(case: Case, weights: Tensor) -> Case:
    return replace(case, targets=replace(case.targets, weights=weights))


def objective(
    case: Case, terms: tuple[Term, ...] = ALL_TERMS, scales: tuple[float, ...] = SCALES, chunk_tokens: int | None = 5
) -> HeadLoss:
    return head_objective(
        case.hidden, case.weight, case.bias, targets=case.targets, terms=terms, scales=scales, chunk_tokens=chunk_tokens
    )


def own_weights(case: Case, num_terms: int = len(ALL_TERMS)) -> Tensor:
    """[num_terms, N], 0 where nothing counts and here and there besides."""
    drawn = torch.rand(num_terms, TOKENS, generator=torch.Generator().manual_seed(7))
    return (3.0 * drawn).masked_fill(drawn < 0.2, 0.0) * case.targets.weights.ne(0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk_tokens", [1, 5, None])
def test_weights_of_each_term_are_passes_of_their_own(chunk_tokens: int | None, bias: bool) -> None:
    case = make_case(bias=bias)
    weights = own_weights(case)
    together = objective(under(case, weights), chunk_tokens=chunk_tokens)
    passes = [
        objective(under(case, own), (term,), (scale,))
        for term, scale, own in zip(ALL_TERMS, SCALES, weights, strict=True)
    ]
    total = sum(one.total for one in passes)
    torch.testing.assert_close(together.sums, torch.cat([one.sums for one in passes]))
    torch.testing.assert_close(together.total, total)
    torch.testing.assert_close(gradients(together.total, case), gradients(total, case))
    naive = torch.stack([naive_values(case, term) for term in ALL_TERMS])
    torch.testing.assert_close(together.sums, (naive * weights).sum(1).detach())


def test_equal_weights_of_all_terms_are_the_weights_of_tokens() -> None:
    case, weights = make_case(), make_case().targets.weights.double()
    got, right = objective(under(case, weights.expand(len(ALL_TERMS), -1))), objective(under(case, weights))
    torch.testing.assert_close(got.sums, right.sums)
    torch.testing.assert_close(gradients(got.total, case), gradients(right.total, case))
    assert got.num_tokens == right.num_tokens


@pytest.mark.parametrize("silent", [0, 1])
def test_a_token_without_weight_for_one_term_counts_for_the_other(silent: int) -> None:
    case, terms = make_case(), (LABEL, SIGNAL)
    weights = case.targets.weights.repeat(2, 1)
    weights[silent, 0] = 0.0  # token 0 counts otherwise
    loss = objective(under(case, weights), terms, (1.0, 1.0))
    values = torch.stack([naive_values(case, term) for term in terms]).detach()
    torch.testing.assert_close(loss.sums, (values * weights).sum(1))
    assert loss.num_tokens == int((case.targets.weights != 0).sum())
    hidden = gradients(loss.total, case)[0]
    alone = under(case, weights[1 - silent])
    other = gradients(objective(alone, (terms[1 - silent],), (1.0,)).total, alone)[0]
    torch.testing.assert_close(hidden[0], other[0])
    assert hidden[0].abs().sum() > 0


@pytest.mark.parametrize("silent", [0, 1])
def test_a_term_without_any_weight_is_not_there(silent: int) -> None:
    case, terms = make_case(), (LABEL, SIGNAL)
    weights = case.targets.weights.repeat(2, 1)
    weights[silent] = 0.0
    loss = objective(under(case, weights), terms, (0.5, 0.8))
    alone = objective(case, (terms[1 - silent],), ((0.8, 0.5)[silent],))
    assert loss.sums[silent] == 0
    torch.testing.assert_close(gradients(loss.total, case), gradients(alone.total, case))


def test_tokens_that_count_for_no_term_are_never_read() -> None:
    case = make_case()
    weights = own_weights(case)
    unread = ~weights.ne(0).any(0)
    assert unread.any()
    hidden = case.hidden.detach().masked_fill(unread[:, None], torch.nan).requires_grad_()
    signal = case.targets.signal
    poisoned = replace(signal, hidden=signal.hidden.masked_fill(unread[:, None], torch.nan))
    bad = replace(case, hidden=hidden, targets=replace(case.targets, signal=poisoned, weights=weights))
    got, right = objective(bad), objective(under(case, weights))
    torch.testing.assert_close(got.sums, right.sums)
    torch.testing.assert_close(gradients(got.total, bad), gradients(right.total, case))


def test_token_losses_are_those_of_tokens_that_count_for_any_term() -> None:
    case = make_case()
    weights = own_weights(case, 2)
    counted = weights.ne(0).any(0)
    got = token_losses(case.hidden, case.weight, case.bias, targets=under(case, weights).targets, term=SIGNAL)
    torch.testing.assert_close(got, naive_values(case, SIGNAL).detach().masked_fill(~counted, 0.0))
