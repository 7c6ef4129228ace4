"""The weighted losses of a stage, ready to be called inside the head's forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from espalier.data.batch import Batch
from espalier.models.network import HeadUse
from espalier.objectives.chunked import head_objective
from espalier.objectives.signal import Signal
from espalier.objectives.sweep import Targets
from espalier.objectives.terms import Term


@dataclass(frozen=True)
class Objective:
    """What the student is trained for.

    Attributes:
        watch: shown each microbatch and the logits [targets, V] at its targets, as they come; of small heads.
    """

    terms: tuple[Term, ...]
    watch: Callable[[Batch, Tensor], None] | None = None

    def use(self, batch: Batch, signal: Signal | None, scales: Sequence[float]) -> HeadUse[tuple[Tensor, Tensor]]:
        """What the head shall do with the hidden states of this microbatch: (total, sums) of a `HeadLoss`.

        A plain tuple, because DeepSpeed's hooks look for tensors in tuples, lists and dicts only.
        """
        targets = token_targets(batch, signal, terms=self.terms)

        def objective(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
            if self.watch is not None:
                with torch.no_grad():
                    self.watch(batch, torch.nn.functional.linear(hidden[batch.token_mask], weight, bias))
            flat = hidden.flatten(0, 1)
            loss = head_objective(flat, weight, bias, targets=targets, terms=self.terms, scales=scales)
            return loss.total, loss.sums

        return objective


def token_targets(batch: Batch, signal: Signal | None, *, terms: Sequence[Term] = ()) -> Targets:
    """One row a token: its label, its weight (token mask times sample weight), the teacher's hidden state.

    Args:
        terms: needed where the batch has weights of their own for terms that follow the teacher.
    """
    weights = (batch.token_mask * batch.sample_weights[:, None]).flatten()
    if batch.signal_weights is not None:
        of_signal = (batch.token_mask * batch.signal_weights[:, None]).flatten()
        weights = torch.stack([of_signal if term.needs_teacher else weights for term in terms])
    flat = None
    if signal is not None:
        flat = Signal(signal.hidden.flatten(0, 1), signal.head_weight, signal.head_bias)
    return Targets(labels=batch.labels.flatten(), weights=weights, signal=flat)
