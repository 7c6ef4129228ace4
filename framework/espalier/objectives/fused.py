"""Which losses run as one Triton kernel on a GPU, and the kernel's call.

The code in `gradients.py` computes the same wherever the kernel does not run, and the kernel is held against it before
its first use: with bfloat16 heads on CUDA devices, for the losses in `KINDS` and their weighted sums.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from espalier.objectives.gradients import scaled_gradient
from espalier.objectives.losses.cross_entropy import CrossEntropy
from espalier.objectives.losses.forward_kl import ForwardKL
from espalier.objectives.losses.jsd import JensenShannon
from espalier.objectives.losses.reverse_kl import ReverseKL
from espalier.objectives.losses.skewed_kl import SkewedForwardKL, SkewedReverseKL
from espalier.objectives.terms import Term

KINDS = (CrossEntropy, ForwardKL, ReverseKL, JensenShannon, SkewedForwardKL, SkewedReverseKL)
"""Settings of the losses that the kernel knows; the place of each is its number there."""
_MIN_CAPABILITY = (8, 0)  # the first cards with matrix products of bfloat16
_SLICES = (2048, 4096, 8192)  # sizes of slices to choose from
_LOGITS_A_WARP = 512  # of each model, in the registers of its threads
_REGISTERS = 64  # of a thread at most: several programs on a processor, of which some compute while others wait
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FusedTerms:
    """The terms of a loss as the kernel takes them.

    Attributes:
        kinds: of each term, its place in `KINDS`.
        temperatures: each once.
        groups: of each term, the place of its temperature.
        teacher_groups: of each temperature, whether a term that has it needs the teacher.
        mixes: of each term, the share of its mixture; 0 where it has none.
        slice_size: logits of a slice, a power of two.
    """

    kinds: tuple[int, ...]
    temperatures: tuple[float, ...]
    groups: tuple[int, ...]
    teacher_groups: tuple[bool, ...]
    mixes: tuple[float, ...]
    slice_size: int

    @staticmethod
    def of(terms: Sequence[Term], slice_size: int) -> FusedTerms:
        """Every term is one of the kernel's."""
        settings = [term.settings for term in terms]
        own = [float(getattr(one, "temperature", 1.0)) for one in settings]
        temperatures = tuple(dict.fromkeys(own))
        needing = {temperature for temperature, term in zip(own, terms, strict=True) if term.needs_teacher}
        return FusedTerms(
            kinds=tuple(KINDS.index(type(one)) for one in settings),
            temperatures=temperatures,
            groups=tuple(temperatures.index(temperature) for temperature in own),
            teacher_groups=tuple(temperature in needing for temperature in temperatures),
            mixes=tuple(float(getattr(one, "beta", getattr(one, "skew", 0.0))) for one in settings),
            slice_size=slice_size,
        )

    def values(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
        """[terms, C], unweighted, of float32 logits [C, V]; arguments as in `values_and_gradient`."""
        return self._launch(student, teacher, labels)

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
        """Values [terms, C], unweighted; and `gradient`, written: the sum of scale * weight * gradient by the logits.

        Args:
            student: [C, V] float32 logits, contiguous; not changed.
            teacher: likewise; None where no term needs one.
            labels: [C] int64, each in the vocabulary.
            weights: float32 [C], or [terms, C] where terms weigh samples each in their own way.
            scales: one a term.
            gradient: [C, V] of any floating-point dtype, contiguous; rounded to it once.
        """
        return self._launch(student, teacher, labels, (weights, scales, gradient))

    def _launch(
        self,
        student: Tensor,
        teacher: Tensor | None,
        labels: Tensor,
        wanted: tuple[Tensor, Sequence[float], Tensor] | None = None,
    ) -> Tensor:
        from espalier.objectives.fused_kernel import head_pass

        (num_rows, vocabulary), num_terms = student.shape, len(self.kinds)
        num_slices = -(-vocabulary // self.slice_size)
        values = student.new_empty(num_terms, num_rows, num_slices)
        weights, scales, gradient = wanted or (student, (0.0,) * num_terms, student)
        weights = weights.contiguous()
        head_pass[(num_rows * num_slices,)](
            student,
            student if teacher is None else teacher,
            labels,
            weights,
            gradient,
            values,
            student.new_empty(num_rows, 4 * len(self.temperatures) + num_terms, num_slices),
            torch.zeros(2, num_rows, dtype=torch.int32, device=student.device),
            tuple(1.0 / temperature for temperature in self.temperatures),
            tuple(map(float, scales)),
            self.mixes,
            vocabulary,
            num_slices,
            num_rows,
            weights.stride(0) if weights.dim() == 2 else 0,
            KINDS=self.kinds,
            GROUPS=self.groups,
            TEACHER_GROUPS=self.teacher_groups,
            HAS_TEACHER=any(self.teacher_groups),
            NEEDS_MEAN=any(kind > KINDS.index(ForwardKL) for kind in self.kinds),  # as the kernel tells
            WITH_GRADIENT=wanted is not None,
            SLICE=self.slice_size,
            SLICES=_power_of_two(num_slices),
            num_warps=max(1, self.slice_size // _LOGITS_A_WARP),
            maxnreg=_REGISTERS,
        )
        return values.sum(-1)


def fused_terms(
    terms: Sequence[Term], *, vocabulary: int, dtype: torch.dtype, device: torch.device
) -> FusedTerms | None:
    """The terms for the kernel, or None where `gradients.py` computes them; the log says once why on a GPU.

    Args:
        dtype: of the head's matrix products.
    """
    known = all(type(term.settings) in KINDS for term in terms)
    if device.type != "cuda" or dtype != torch.bfloat16 or not known:
        return None
    return _checked_terms(tuple(terms), vocabulary, device)


@cache
def _checked_terms(terms: tuple[Term, ...], vocabulary: int, device: torch.device) -> FusedTerms | None:
    """The terms for the kernel, once it has been compiled and has computed a few tokens rightly on this device."""
    card = torch.cuda.get_device_properties(device)
    size = slice_size(vocabulary, num_processors=card.multi_processor_count)
    reason: str | None
    if (card.major, card.minor) < _MIN_CAPABILITY:
        reason = f"compute capability {card.major}.{card.minor} is below {'.'.join(map(str, _MIN_CAPABILITY))}"
    elif size is None:
        reason = f"a vocabulary of {vocabulary} is too large for its {card.multi_processor_count} processors"
    else:
        fused = FusedTerms.of(terms, size)
        reason = _failure(fused, terms, vocabulary, device)
        if reason is None:
            return fused
    _log.warning("the fused kernel for losses of logits is not used, PyTorch's operations are: %s", reason)
    return None


def _failure(fused: FusedTerms, terms: Sequence[Term], vocabulary: int, device: torch.device) -> str | None:
    """Why the kernel is of no use here; None where it works."""
    try:
        error = largest_error(fused, terms, vocabulary, device)
    except torch.OutOfMemoryError:
        raise
    except Exception as failure:  # of the import, the compiler, the driver: whatever it is, training goes on without
        return f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}"
    return None if error < _ALLOWED_ERROR else f"its results are wrong by {error:.1e} on this device"


_ALLOWED_ERROR = 1e-2  # of a gradient in bfloat16; rounding alone leaves 2e-3
_TRIED_TOKENS = 8


def largest_error(fused: FusedTerms, terms: Sequence[Term], vocabulary: int, device: torch.device) -> float:
    """How far the kernel is from `gradients.py` on random logits: the largest relative error of values and gradient."""
    draw = torch.Generator(device).manual_seed(0)  # of its own: the streams of the run do not move
    shape = (_TRIED_TOKENS, vocabulary)
    student, teacher = (3.0 * torch.randn(shape, generator=draw, device=device) for _ in range(2))
    labels = torch.randint(vocabulary, shape[:1], generator=draw, device=device)
    weights = 0.5 + torch.rand(shape[:1], generator=draw, device=device)
    scales = [1.0 / (1 + place) for place in range(len(terms))]
    gradient = torch.full(shape, torch.nan, dtype=torch.bfloat16, device=device)
    values = fused.values_and_gradient(student, teacher, labels, weights=weights, scales=scales, gradient=gradient)
    factors = [scale * weights[:, None] for scale in scales]
    right_values, right = scaled_gradient(terms, factors, student, teacher_logits=teacher, labels=labels)
    pairs = ((values, right_values), (gradient.float(), right))
    errors = torch.stack([(got - true).norm() / true.norm() for got, true in pairs])
    return float(errors.amax())  # keeps what is no number, as of a gradient that was not written


def slice_size(vocabulary: int, *, num_processors: int) -> int | None:
    """Logits of a slice, so that all programs of a row run at once beside other work; None where none is large enough.

    Each processor runs at least one program at a time; half of them may be busy with something else.
    """
    if vocabulary <= _SLICES[0]:
        return max(32, _power_of_two(vocabulary))
    return next((size for size in _SLICES if -(-vocabulary // size) <= num_processors // 2), None)


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
