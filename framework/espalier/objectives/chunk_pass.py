"""One pass over the tokens that count, a chunk at a time: values of the terms, and gradients if wanted.

Of the logits of a microbatch [N, V] only those of one chunk exist at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from espalier.objectives.fused import FusedTerms
from espalier.objectives.gradients import scaled_gradient, token_values
from espalier.objectives.head import Gradients, Head, wide_dtype
from espalier.objectives.signal import Signal
from espalier.objectives.sizes import block_size, fused_block_size
from espalier.objectives.terms import Term


@dataclass(frozen=True)
class Targets:
    """What the outputs at N tokens are compared with.

    Attributes:
        labels: [N] int64, or float32 values; read only where a weight is not 0.
        weights: [N] float32, token mask times sample weight; [number of terms, N] where terms weigh samples each in
            their own way. Tokens of weight 0 cost nothing.
        signal: the teacher's, its hidden states flattened to [N, D of the teacher]; None without a teacher.
    """

    labels: Tensor
    weights: Tensor
    signal: Signal | None = None

    @property
    def counted(self) -> Tensor:
        """[number of tokens that count] int64; on a GPU the host waits here."""
        weighs = self.weights if self.weights.dim() == 1 else self.weights.ne(0).any(0)
        return weighs.nonzero().squeeze(-1)


@dataclass(frozen=True)
class ChunkPass:
    """The inputs of a pass over the tokens that count, a chunk at a time. No autograd graph runs through it.

    Attributes:
        hidden: [N, D] of the student, in the dtype of its head.
        teacher: its head, and its hidden states [N, D of the teacher] in the head's dtype; None without one.
        targets: of the same N tokens.
        terms: at least one.
        chunks: which tokens each chunk takes, [C] int64 each; together the tokens that count.
        fused: the terms for the kernel that takes the place of the code in `gradients.py`; None where none does.
    """

    student: Head
    hidden: Tensor
    teacher: tuple[Head, Tensor] | None
    targets: Targets
    terms: tuple[Term, ...]
    chunks: tuple[Tensor, ...]
    fused: FusedTerms | None = None

    @property
    def num_tokens(self) -> int:
        return sum(rows.numel() for rows in self.chunks)

    def values(self) -> Tensor:
        """[number of terms, N] fp32, unweighted; 0 at tokens that do not count."""
        values = self._no_values()
        for rows in self.chunks:
            values[:, rows] = self._chunk_values(rows)
        return values

    def values_and_gradients(
        self, scales: Sequence[float], *, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor, Gradients]:
        """`values`, and the gradients of the sum of scale * weight * value over terms and tokens."""
        values, gradients = self._no_values(), Gradients.zeros(self.hidden, self.student, wanted=wanted)
        for rows in self.chunks:
            values[:, rows], logits_gradient = self._chunk_gradient(rows, scales)
            gradients.add_(logits_gradient, rows=rows, inputs=self.hidden[rows], head=self.student)
            del logits_gradient  # or it would lie beside the next chunk's
        return values, gradients

    def sums(self, values: Tensor) -> Tensor:
        """[number of terms] float64: the values times the tokens' weights, summed."""
        weights = self.targets.weights.double()
        return values.double() @ weights if weights.dim() == 1 else (values.double() * weights).sum(1)

    def _no_values(self) -> Tensor:
        dtype = wide_dtype(self.hidden.dtype)
        return torch.zeros(len(self.terms), len(self.hidden), dtype=dtype, device=self.hidden.device)

    def _logits(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        student = self.student.logits(self.hidden[rows])
        if self.teacher is None:
            return student, None
        head, hidden = self.teacher
        return student, head.logits(hidden[rows]).to(student.dtype)

    def _chunk_values(self, rows: Tensor) -> Tensor:
        """[number of terms, C]."""
        if self.fused is not None:
            return self._fused_values(rows, self.fused)
        student, teacher = self._logits(rows)
        labels, values = self.targets.labels[rows], []
        for part in _blocks(student):
            theirs = None if teacher is None else teacher[part]
            block = [
                token_values(term, student[part], teacher_logits=theirs, labels=labels[part]) for term in self.terms
            ]
            values.append(torch.stack(block))
        return torch.cat(values, dim=1)

    def _chunk_gradient(self, rows: Tensor, scales: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Values [number of terms, C] and the gradient of the scaled, weighted sum by the logits, [C, V]."""
        if self.fused is not None:
            return self._fused_gradient(rows, scales, self.fused)
        student, teacher = self._logits(rows)
        labels, weights, values = self.targets.labels[rows], self.targets.weights[..., rows, None], []
        dtype = self.student.weight.dtype
        gradient = student if student.dtype == dtype else torch.empty_like(student, dtype=dtype)
        for part in _blocks(student):
            theirs = None if teacher is None else teacher[part]
            if alike := weights.dim() == 2:
                factors, last = scales, scales[0] * weights[part]
            else:
                factors = [scale * own[part] for scale, own in zip(scales, weights, strict=True)]
            block, total = scaled_gradient(
                self.terms, factors, student[part], teacher_logits=theirs, labels=labels[part]
            )
            torch.mul(total, last if alike else 1.0, out=gradient[part])  # one pass: weighted, rounded, put in place
            values.append(block)
        return torch.cat(values, dim=1), gradient

    def _fused_values(self, rows: Tensor, fused: FusedTerms) -> Tensor:
        labels = self.targets.labels
        values = [fused.values(*self._logits(part), labels[part]) for part in self._fused_blocks(rows)]
        return torch.cat(values, dim=1)

    def _fused_gradient(self, rows: Tensor, scales: Sequence[float], fused: FusedTerms) -> tuple[Tensor, Tensor]:
        """As `_chunk_gradient`. Logits exist a block at a time, the gradient of the whole chunk does."""
        targets, values = self.targets, []
        gradient = self.student.weight.new_empty(len(rows), len(self.student.weight))
        blocks = self._fused_blocks(rows)
        for part, out in zip(blocks, gradient.split([len(part) for part in blocks]), strict=True):
            found = fused.values_and_gradient(
                *self._logits(part),
                targets.labels[part],
                weights=targets.weights[..., part],
                scales=scales,
                gradient=out,
            )
            values.append(found)
        return torch.cat(values, dim=1), gradient

    def _fused_blocks(self, rows: Tensor) -> tuple[Tensor, ...]:
        return rows.split(fused_block_size(len(self.student.weight)))


def _blocks(logits: Tensor) -> list[slice]:
    size = block_size(logits.device.type, logits.shape[1], num_threads=torch.get_num_threads())
    return [slice(start, start + size) for start in range(0, len(logits), size)]
