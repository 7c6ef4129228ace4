"""The weighted losses of a stage, ready to be called inside the head's forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from espalier.data.batch import Batch
from espalier.models.network import HeadUse
from espalier.objectives.chunked import head_objective
from espalier.objectives.signal import Signal
from espalier.objectives.sweep import Targets
from espalier.objectives.terms import Term


@dataclass(frozen=True)
class Objective:
    """What the student is trained for."""

    terms: tuple[Term, ...]

    def use(self, batch: Batch, signal: Signal | None, scales: Sequence[float]) -> HeadUse[tuple[Tensor, Tensor]]:
        """What the head shall do with the hidden states of this microbatch: (total, sums) of a `HeadLoss`.

        A plain tuple, because DeepSpeed's hooks look for tensors in tuples, lists and dicts only.
        """
        targets = token_targets(batch, signal)

        def objective(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
            flat = hidden.flatten(0, 1)
            loss = head_objective(flat, weight, bias, targets=targets, terms=self.terms, scales=scales)
            return loss.total, loss.sums

        return objective


def token_targets(batch: Batch, signal: Signal | None) -> Targets:
    """One row a token: its label, its weight (token mask times sample weight), the teacher's hidden state."""
    weights = batch.token_mask * batch.sample_weights[:, None]
    flat = None
    if signal is not None:
        flat = Signal(signal.hidden.flatten(0, 1), signal.head_weight, signal.head_bias)
    return Targets(labels=batch.labels.flatten(), weights=weights.flatten(), signal=flat)
