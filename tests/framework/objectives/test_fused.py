"""When the fused kernel is chosen, what happens where it cannot run, and the pass around it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from naive_head import ALL_TERMS, TOKENS, VOCABULARY, gradients, make_case, naive_sums
from torch import Tensor

from espalier.config.losses import LOSSES
from espalier.objectives import chunk_pass, chunked, fused
from espalier.objectives.chunked import head_objective, token_losses
from espalier.objectives.fused import KINDS, FusedTerms, fused_terms, slice_size
from espalier.objectives.gradients import scaled_gradient, token_values
from espalier.objectives.sizes import FUSED_BLOCK_BYTES, FUSED_CHUNK_BYTES, fused_block_size, fused_chunk_size
from espalier.objectives.terms import Term

TERMS = (Term.of("cross_entropy"), Term.of("forward_kl", temperature=2.0), Term.of("jsd", beta=0.3, temperature=2.0))
CARD = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def a_card(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The properties of a card, to be changed; nothing runs on it."""
    card = SimpleNamespace(major=9, minor=0, multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    fused._checked_terms.cache_clear()
    yield card
    fused._checked_terms.cache_clear()


def chosen(terms: Sequence[Term] = TERMS, dtype: torch.dtype = torch.bfloat16, vocabulary: int = 128_256) -> object:
    return fused_terms(terms, vocabulary=vocabulary, dtype=dtype, device=CARD)


def give_error(monkeypatch: pytest.MonkeyPatch, error: float) -> None:
    monkeypatch.setattr(fused, "largest_error", lambda *given: error)


def test_every_loss_over_classes_is_the_kernel_s() -> None:
    assert {loss.settings for loss in LOSSES.values() if loss.compares == "classes"} == set(KINDS)


def test_it_is_chosen_where_it_computes_rightly(monkeypatch: pytest.MonkeyPatch) -> None:
    give_error(monkeypatch, 2e-3)
    found = chosen()
    assert found == FusedTerms((0, 1, 3), (1.0, 2.0), (0, 1, 1), (False, True), (0.0, 0.0, 0.3), slice_size=2048)


def test_other_formats_losses_and_devices_keep_the_plain_code(monkeypatch: pytest.MonkeyPatch) -> None:
    give_error(monkeypatch, 0.0)
    assert chosen(dtype=torch.float32) is None
    assert chosen((Term.of("squared_error"),)) is None
    assert fused_terms(TERMS, vocabulary=128_256, dtype=torch.bfloat16, device=torch.device("cpu")) is None


@pytest.mark.parametrize("error", [0.02, float("nan")])
def test_wrong_results_are_told_once_and_not_used(
    error: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    give_error(monkeypatch, error)
    assert chosen() is None and chosen() is None
    (line,) = caplog.messages
    assert line.startswith("the fused kernel for losses of logits is not used, PyTorch's operations are: its results")


def test_a_kernel_that_does_not_compile_ends_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Here there is no Triton, or none for this device: the failure is a real one."""
    real = fused.largest_error
    monkeypatch.setattr(fused, "largest_error", lambda *given: real(*given[:-1], torch.device("cpu")))
    assert chosen(vocabulary=VOCABULARY) is None and chosen(vocabulary=VOCABULARY) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "\n" not in record.getMessage()


def test_a_lack_of_memory_says_nothing_about_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> float:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(fused, "largest_error", fail)
    with pytest.raises(torch.OutOfMemoryError):
        chosen()
    give_error(monkeypatch, 0.0)
    assert chosen() is not None


def test_an_old_card_and_a_small_one_are_told(a_card: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    a_card.major = 7
    assert chosen(vocabulary=1000) is None
    a_card.major, a_card.multi_processor_count = 9, 20
    assert chosen(vocabulary=128_256) is None
    assert [message.split(": ")[1] for message in caplog.messages] == [
        "compute capability 7.0 is below 8.0",
        "a vocabulary of 128256 is too large for its 20 processors",
    ]


@pytest.mark.parametrize("vocabulary", [2, 29, 2049, 32_003, 128_256, 262_144])
def test_all_programs_of_a_row_fit_on_half_of_the_card(vocabulary: int) -> None:
    size = slice_size(vocabulary, num_processors=132)
    assert size is not None and size >= 32 and size & (size - 1) == 0
    assert -(-vocabulary // size) <= 66


@pytest.mark.parametrize("vocabulary", [997, 32_003, 151_937])
def test_sizes_fill_their_bounds_and_keep_them(vocabulary: int) -> None:
    chunk, block = fused_chunk_size(vocabulary), fused_block_size(vocabulary)
    assert 2 * vocabulary * chunk <= FUSED_CHUNK_BYTES < 2 * vocabulary * (chunk + 128)
    assert 8 * vocabulary * block <= FUSED_BLOCK_BYTES < 8 * vocabulary * (block + 128)
    assert chunk % 128 == block % 128 == 0
    assert fused_block_size(10**9) == 1


class Plain:
    """The kernel's part of the pass in PyTorch, for a CPU."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms, self.sizes = terms, []

    def values(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
        self.sizes.append(len(student))
        return torch.stack([token_values(one, student, teacher_logits=teacher, labels=labels) for one in self.terms])

    def values_and_gradient(
        self,
        student: Tensor,
        teacher: Tensor | None,
        labels: Tensor,
        *,
        weights: Tensor,
        scales: Sequence[float],
        gradient: Tensor,
    ) -> Tensor:
        self.sizes.append(len(student))
        own = weights.double().expand(len(self.terms), -1)
        factors = [scale * one[:, None] for scale, one in zip(scales, own, strict=True)]
        student, teacher = student.clone(), None if teacher is None else teacher.clone()  # the plain code writes there
        values, total = scaled_gradient(self.terms, factors, student, teacher_logits=teacher, labels=labels)
        gradient.copy_(total)
        return values


class WithoutGradient(Plain):
    """Computes values and leaves the gradient as it was."""

    def values_and_gradient(self, student: Tensor, teacher: Tensor | None, labels: Tensor, **given: Any) -> Tensor:
        given["gradient"] = given["gradient"].clone()
        return super().values_and_gradient(student, teacher, labels, **given)


@pytest.mark.parametrize(("kernel", "is_right"), [(Plain, True), (WithoutGradient, False)])
def test_a_gradient_that_is_not_written_is_an_error_of_the_trial(kernel: type[Plain], is_right: bool) -> None:
    error = fused.largest_error(kernel(TERMS), TERMS, VOCABULARY, torch.device("cpu"))  # type: ignore[arg-type]
    assert (error < 1e-2) is is_right


@pytest.mark.parametrize("own_weights", [False, True])
@pytest.mark.parametrize("chunk_tokens", [4, 7, None])
def test_the_pass_around_the_kernel(
    chunk_tokens: int | None, own_weights: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, scales = make_case(), [0.1 + 0.2 * place for place in range(len(ALL_TERMS))]
    if own_weights:
        drawn = torch.rand(len(ALL_TERMS), TOKENS, generator=torch.Generator().manual_seed(7))
        case = replace(case, targets=replace(case.targets, weights=drawn * case.targets.weights.ne(0)))

    def found() -> tuple[Tensor, list[Tensor], Tensor]:
        given = {"targets": case.targets, "chunk_tokens": chunk_tokens}
        loss = head_objective(case.hidden, case.weight, case.bias, terms=ALL_TERMS, scales=scales, **given)
        alone = token_losses(case.hidden, case.weight, case.bias, term=ALL_TERMS[3], **given)
        return loss.sums, gradients(loss.total, case), alone

    right, plain = found(), []
    monkeypatch.setattr(chunked, "fused_terms", lambda terms, **_: plain.append(Plain(terms)) or plain[-1])
    monkeypatch.setattr(chunk_pass, "fused_block_size", lambda vocabulary: 3)
    torch.testing.assert_close(found(), right)
    counted = int((make_case().targets.weights != 0).sum())
    assert [sum(one.sizes) for one in plain] == [counted, counted] and max(plain[0].sizes) == 3
    if not own_weights:
        torch.testing.assert_close(right[0], naive_sums(case, ALL_TERMS).detach())
