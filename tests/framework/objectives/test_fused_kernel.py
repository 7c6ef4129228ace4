"""The fused kernel against the code that it takes the place of, in float64.

On a GPU; with Triton installed also without one: `TRITON_INTERPRET=1 pytest -m gpu <this file>`.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from naive_head import ALL_TERMS, gradients, make_case, naive_sums, name, relative_error
from torch import Tensor

from espalier.objectives import chunked
from espalier.objectives.chunked import head_objective, token_losses
from espalier.objectives.fused import FusedTerms, fused_terms, slice_size
from espalier.objectives.gradients import scaled_gradient
from espalier.objectives.losses.cross_entropy import CrossEntropy
from espalier.objectives.losses.forward_kl import ForwardKL
from espalier.objectives.losses.reverse_kl import ReverseKL
from espalier.objectives.losses.skewed_kl import SkewedForwardKL
from espalier.objectives.terms import Term

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
NO_GPU = not torch.cuda.is_available()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(NO_GPU and not INTERPRETED, reason="GPU")]
on_a_gpu = pytest.mark.skipif(NO_GPU, reason="several programs wait for each other")

CLOSE = 3e-5 if INTERPRETED else 5e-6  # the interpreter adds up one by one

RESOLVED = (CrossEntropy, ForwardKL, ReverseKL, SkewedForwardKL)
"""Of these the gradient is no rounding where models have nothing in common; that of the others vanishes there."""

SUMS = (
    (Term.of("cross_entropy"), Term.of("forward_kl", temperature=2.0)),
    (Term.of("forward_kl"), Term.of("reverse_kl")),
    ALL_TERMS,
)


def logits(rows: int, vocabulary: int, *, spread: float = 3.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Student, teacher, labels, weights."""
    draw = torch.Generator().manual_seed(rows * vocabulary)
    student, teacher = (spread * torch.randn(rows, vocabulary, generator=draw) for _ in range(2))
    labels, weights = torch.randint(vocabulary, (rows,), generator=draw), 0.5 + torch.rand(rows, generator=draw)
    weights[rows // 2] = 0.0
    return student.to(DEVICE), teacher.to(DEVICE), labels.to(DEVICE), weights.to(DEVICE)


def compared(
    terms: tuple[Term, ...],
    given: tuple[Tensor, Tensor, Tensor, Tensor],
    dtype: torch.dtype = torch.float32,
    *,
    processors: int = 132,
) -> tuple[float, float]:
    """Relative errors of values and gradient against float64."""
    student, teacher, labels, weights = given
    scales = [0.3 + 0.2 * place for place in range(len(terms))]
    size = slice_size(student.shape[1], num_processors=processors)
    assert size is not None
    gradient = torch.full_like(student, torch.nan, dtype=dtype)  # what is not written is seen
    fused = FusedTerms.of(terms, size)
    own = student.clone()
    values = fused.values_and_gradient(own, teacher, labels, weights=weights, scales=scales, gradient=gradient)
    assert own.equal(student)
    torch.testing.assert_close(fused.values(student, teacher, labels), values, rtol=1e-6, atol=1e-6)
    each = weights.double().expand(len(terms), -1)
    factors = [scale * own[:, None] for scale, own in zip(scales, each, strict=True)]
    right_values, right = scaled_gradient(
        terms, factors, student.double(), teacher_logits=teacher.double(), labels=labels
    )
    return relative_error(values, right_values), relative_error(gradient, right)


@pytest.mark.parametrize("vocabulary", [2, 29, 131, 1024, 1999])
@pytest.mark.parametrize("terms", [*((term,) for term in ALL_TERMS), *SUMS], ids=name)
def test_one_program_a_row(terms: tuple[Term, ...], vocabulary: int) -> None:
    values, gradient = compared(terms, logits(5, vocabulary))
    assert values < CLOSE and gradient < CLOSE


@on_a_gpu
@pytest.mark.parametrize(
    ("vocabulary", "processors"),
    [(8191, 132), (50_257, 132), (128_256, 132), (151_936, 132), (262_145, 132), (128_256, 58)],
)
@pytest.mark.parametrize("terms", [*((term,) for term in ALL_TERMS), *SUMS[:2]], ids=name)
def test_several_programs_a_row(terms: tuple[Term, ...], vocabulary: int, processors: int) -> None:
    """The slices are those that a card of so many processors would get."""
    values, gradient = compared(terms, logits(40, vocabulary), processors=processors)
    assert values < CLOSE and gradient < CLOSE


@pytest.mark.parametrize("spread", [0.01, 30.0])
@pytest.mark.parametrize("term", ALL_TERMS, ids=name)
def test_flat_and_peaked_distributions(term: Term, spread: float) -> None:
    """Where models agree almost, or have nothing in common, a gradient is the small difference of larger numbers."""
    student, teacher, labels, weights = logits(7, 1999, spread=spread)
    gradient, size = torch.empty_like(student), slice_size(1999, num_processors=132)
    given = {"weights": weights, "scales": (1.0,), "gradient": gradient}
    values = FusedTerms.of((term,), size).values_and_gradient(student, teacher, labels, **given)
    right_values, right = scaled_gradient(
        (term,), [weights[:, None].double()], student.double(), teacher_logits=teacher.double(), labels=labels
    )
    tau = getattr(term.settings, "temperature", 1.0)  # its square scales what log-sum-exps are rounded by
    torch.testing.assert_close(values.double(), right_values, rtol=CLOSE, atol=1e-6 * tau**2)
    if spread < 1.0 or type(term.settings) in RESOLVED:
        assert relative_error(gradient, right) < 5e-5
    torch.testing.assert_close(gradient.double(), right, rtol=CLOSE, atol=CLOSE)


def test_a_gradient_in_bfloat16_is_rounded_once() -> None:
    assert compared(ALL_TERMS, logits(5, 1999), torch.bfloat16)[1] < 2.5e-3


def test_each_term_has_weights_of_its_own() -> None:
    student, teacher, labels, _ = logits(5, 131)
    weights = torch.rand(2, 5, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    gradient, terms, scales = torch.empty_like(student), SUMS[0], (0.5, 2.0)
    fused = FusedTerms.of(terms, 256)
    fused.values_and_gradient(student, teacher, labels, weights=weights, scales=scales, gradient=gradient)
    factors = [scale * own[:, None] for scale, own in zip(scales, weights.double(), strict=True)]
    _, right = scaled_gradient(terms, factors, student.double(), teacher_logits=teacher.double(), labels=labels)
    assert relative_error(gradient, right) < CLOSE


@pytest.mark.parametrize("term", [term for term in ALL_TERMS if term.needs_teacher], ids=name)
def test_a_model_is_at_no_distance_from_itself(term: Term) -> None:
    student, _, labels, weights = logits(4, 1999)
    gradient = torch.empty_like(student)
    fused = FusedTerms.of((term,), 2048)
    values = fused.values_and_gradient(
        student, student.clone(), labels, weights=weights, scales=[1.0], gradient=gradient
    )
    assert float(values.abs().max()) <= 1e-6 and float(gradient.abs().max()) <= 1e-6


@on_a_gpu
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("terms", [(Term.of("forward_kl"),), *SUMS], ids=name)
def test_the_whole_head_beside_the_plain_code(
    terms: tuple[Term, ...], bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks and blocks that do not divide; the error against float64 is that of the plain code at most."""
    case = make_case(bias=bias, tokens=700, vocabulary=4099).to(torch.bfloat16, "cuda")
    if not bias:
        case = replace(case, bias=None)
    scales = [0.1 + 0.2 * place for place in range(len(terms))]
    settings = {"terms": terms, "scales": scales, "chunk_tokens": 150}
    assert fused_terms(terms, vocabulary=4099, dtype=torch.bfloat16, device=case.hidden.device) is not None

    def found() -> list[Tensor]:
        loss = head_objective(case.hidden, case.weight, case.bias, targets=case.targets, **settings)
        alone = token_losses(case.hidden, case.weight, case.bias, targets=case.targets, term=terms[0])
        return [loss.sums, alone, *gradients(loss.total, case)]

    exact = case.to(torch.float64)
    sums = naive_sums(exact, terms)
    right = gradients((sums * torch.tensor(scales, device="cuda")).sum(), exact)
    mine = found()
    monkeypatch.setattr(chunked, "fused_terms", lambda *_, **__: None)
    plain = found()
    torch.testing.assert_close(mine[0], sums.detach(), rtol=2e-5, atol=1e-4)
    torch.testing.assert_close(mine[1], plain[1], rtol=1e-4, atol=1e-5)
    for got, theirs, truth in zip(mine[2:], plain[2:], right, strict=True):
        assert relative_error(got, truth) <= max(1.05 * relative_error(theirs, truth), 2.5e-3)
