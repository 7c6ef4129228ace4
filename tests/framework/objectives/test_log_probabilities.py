"""Losses of log-probabilities against autograd through all logits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from espalier.objectives.chunk_pass import Targets
from espalier.objectives.head import Head
from espalier.objectives.log_probabilities import log_probability_objective
from framework.objectives.naive_head import Case, make_case

SCALES = (0.7, 0.2)
GPU = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="GPU")])


def sequence_loss(log_probabilities: Tensor, reference: Tensor | None) -> Tensor:
    """Two terms, neither a sum over tokens: a sigmoid of the whole, and a clipped ratio."""
    gap = log_probabilities if reference is None else log_probabilities - reference
    return torch.stack([-torch.nn.functional.logsigmoid(0.1 * gap.sum()), gap.exp().clamp(max=3.0).sum()])


def mask_of(case: Case) -> Tensor:
    return (case.targets.weights != 0).to(case.hidden.dtype)


def naive(case: Case, *, with_reference: bool) -> Tensor:
    labels, mask = case.targets.labels.clamp(min=0)[:, None], mask_of(case)

    def chosen(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        logits = torch.nn.functional.linear(hidden, weight, bias)
        return logits.log_softmax(-1).gather(-1, labels)[:, 0] * mask

    signal = case.targets.signal
    reference = chosen(signal.hidden, signal.head_weight, signal.head_bias) if with_reference else None
    return sequence_loss(chosen(case.hidden, case.weight, case.bias), reference)


def ours(case: Case, *, with_reference: bool, chunk_tokens: int | None = None) -> tuple[Tensor, Tensor]:
    signal = case.targets.signal if with_reference else None
    loss = log_probability_objective(
        *(case.hidden, case.weight, case.bias),
        targets=Targets(case.targets.labels, mask_of(case), signal),
        loss=sequence_loss,
        scales=SCALES,
        chunk_tokens=chunk_tokens,
    )
    return loss.total, loss.sums


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("with_reference", [False, True])
@pytest.mark.parametrize("chunk_tokens", [1, 5, None])
def test_value_and_gradient_are_those_of_all_logits(bias: bool, with_reference: bool, chunk_tokens: int | None) -> None:
    case = make_case(bias=bias)
    total, sums = ours(case, with_reference=with_reference, chunk_tokens=chunk_tokens)
    right = naive(case, with_reference=with_reference)
    torch.testing.assert_close(sums, right.detach())
    found = torch.autograd.grad(total, case.leaves())
    wanted = torch.autograd.grad(SCALES[0] * right[0] + SCALES[1] * right[1], case.leaves())
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_in_float32_the_gradient_is_within_1e_5(device: str) -> None:
    case = make_case().to(torch.float32, device)
    found = torch.autograd.grad(ours(case, with_reference=True)[0], case.leaves())
    right = naive(case, with_reference=True)
    wanted = torch.autograd.grad(SCALES[0] * right[0] + SCALES[1] * right[1], case.leaves())
    for one, other in zip(found, wanted, strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-5


def test_no_more_than_a_chunk_of_logits_is_ever_held(monkeypatch: pytest.MonkeyPatch) -> None:
    case, rows = make_case(), []
    logits: Callable[[Head, Tensor], Tensor] = Head.logits

    def noted(head: Head, hidden: Tensor) -> Tensor:
        rows.append(len(hidden))
        return logits(head, hidden)

    monkeypatch.setattr(Head, "logits", noted)
    ours(case, with_reference=True, chunk_tokens=4)
    counted = int(mask_of(case).sum())
    assert max(rows) == 4 and sum(rows) == 3 * counted  # the reference once, the student twice


def test_without_gradients_the_head_is_gone_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    case, calls = make_case(), []
    logits: Callable[[Head, Tensor], Tensor] = Head.logits
    monkeypatch.setattr(Head, "logits", lambda head, hidden: calls.append(len(hidden)) or logits(head, hidden))
    with torch.no_grad():
        total, sums = ours(case, with_reference=False, chunk_tokens=100)
    assert calls == [int(mask_of(case).sum())]
    torch.testing.assert_close(sums, naive(case, with_reference=False).detach())
    assert not total.requires_grad
