"""A model's head, and the matrix products of its loss: logits, gradient of hidden, gradient of weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """What losses and sums are computed in: float32, or float64 where that came in."""
    return torch.promote_types(dtype, torch.float32)


@dataclass(frozen=True)
class Head:
    """Turns hidden states into logits.

    Attributes:
        weight: [V, D]; its dtype is that of the products.
        bias: [V] or None.
    """

    weight: Tensor
    bias: Tensor | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """[C, V] fp32 of hidden [C, D]. A GPU keeps its fp32 sums, a CPU rounds them to the dtype first."""
        wide = wide_dtype(self.weight.dtype)
        if hidden.is_cuda and self.weight.dtype != wide:
            logits = torch.mm(hidden, self.weight.t(), out_dtype=wide)
        else:
            logits = (hidden @ self.weight.t()).to(wide)
        return logits if self.bias is None else logits.add_(self.bias)


@dataclass(frozen=True)
class Gradients:
    """Accumulators for the gradients of all chunks; None where no gradient is wanted.

    Attributes:
        hidden: [N, D], dtype of the hidden states; every token is written once.
        weight: [V, D] fp32, a sum over the tokens.
        bias: [V] fp32, a sum over the tokens.
    """

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    @staticmethod
    def zeros(hidden: Tensor, head: Head, *, wanted: tuple[bool, bool, bool]) -> Gradients:
        wide, bias = wide_dtype(hidden.dtype), head.bias if wanted[2] else None
        return Gradients(
            torch.zeros_like(hidden) if wanted[0] else None,
            torch.zeros_like(head.weight, dtype=wide) if wanted[1] else None,
            None if bias is None else torch.zeros_like(bias, dtype=wide),
        )

    def add_(self, logits_gradient: Tensor, *, rows: Tensor, inputs: Tensor, head: Head) -> None:
        """Carry the gradient of logits [C, V] on to their inputs [C, D], the tokens `rows`, and the head."""
        if self.bias is not None:
            self.bias.add_(logits_gradient.sum(0, dtype=self.bias.dtype))
        factor = logits_gradient.to(inputs.dtype)
        if self.hidden is not None:
            self.hidden[rows] = (factor @ head.weight).to(self.hidden.dtype)
        if self.weight is not None:
            _add_product_(self.weight, factor.t(), inputs)


def _add_product_(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, without rounding the product below fp32."""
    if left.is_cuda and left.dtype != total.dtype:
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total.addmm_(left.to(total.dtype), right.to(total.dtype))
