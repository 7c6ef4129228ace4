"""The objectives of a stage, called inside the head's forward.

A new loss has one of three shapes; a fourth is a class with the methods of `Objective`.

- **Of each token alone** (`TokenObjective`): a function of the logits at a token, its label and the teacher's logits,
  such as cross-entropy and the divergences of distillation. Logits exist a chunk at a time. Declare a `Loss`, see
  `config/loss.py`; it then stands in a job file's `losses`.
- **Of token log-probabilities** (`LogProbabilityObjective`): anything that couples tokens or sequences through
  log q[label], as preference and policy losses do. A function of [B, T]; logits exist a chunk at a time, twice.
- **Of hidden states** (`HiddenStateObjective` in `engine/hidden_states.py`): a function of the student's and the
  teacher's hidden state at each token, after chosen layers. Declare a `Loss` that compares states; it stands in
  `losses` beside losses of logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from espalier.data.batch import Batch
from espalier.models.hidden_states import StatesUse
from espalier.models.network import HeadUse
from espalier.objectives.chunk_pass import Targets
from espalier.objectives.chunked import head_objective
from espalier.objectives.log_probabilities import log_probability_objective
from espalier.objectives.signal import Signal
from espalier.objectives.terms import Term, names_of


class Objective(Protocol):
    """A weighted sum of terms, each a sum over the step divided once by its own count over the step.

    Attributes:
        names: of the terms, in the record of steps.
        weights: of the terms in the loss.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def weights(self) -> tuple[float, ...]: ...

    def counts(self, batch: Batch) -> Sequence[int]:
        """What each term counts in a microbatch: tokens, sequences, pairs. Local; added over the step and workers."""
        ...

    def use(
        self, batch: Batch, signal: Signal | None, scales: Sequence[float]
    ) -> HeadUse[tuple[Tensor, Tensor]] | StatesUse[tuple[Tensor, Tensor]]:
        """What the head does with the hidden states of this microbatch: (total, sums) of a `HeadLoss`.

        A plain tuple, because DeepSpeed's hooks look for tensors in tuples, lists and dicts only. All that touches a
        weight happens inside: under zero_level parameters it exists only while its module's forward runs.

        Args:
            scales: of each term, its weight times ranks over its count in the step.
        """
        ...


@dataclass(frozen=True)
class TokenObjective:
    """Losses that look at each token alone; all are divided by the number of tokens with a label.

    Attributes:
        watch: shown each microbatch and the logits [targets, V] at its targets, as they come; of small heads.
    """

    terms: tuple[Term, ...]
    watch: Callable[[Batch, Tensor], None] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return names_of(self.terms)

    @property
    def weights(self) -> tuple[float, ...]:
        return tuple(term.weight for term in self.terms)

    def counts(self, batch: Batch) -> Sequence[int]:
        return (batch.num_counted_tokens(),) * len(self.terms)

    def use(self, batch: Batch, signal: Signal | None, scales: Sequence[float]) -> HeadUse[tuple[Tensor, Tensor]]:
        targets = token_targets(batch, signal, terms=self.terms)

        def objective(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
            if self.watch is not None:
                with torch.no_grad():
                    self.watch(batch, torch.nn.functional.linear(hidden[batch.token_mask], weight, bias))
            flat = hidden.flatten(0, 1)
            loss = head_objective(flat, weight, bias, targets=targets, terms=self.terms, scales=scales)
            return loss.total, loss.sums

        return objective


@dataclass(frozen=True)
class LogProbabilityObjective:
    """Losses that couple the tokens of a sequence, or the sequences of a microbatch, through log-probabilities.

    Sequences that a loss couples stand in one microbatch.

    Attributes:
        loss: (log-probabilities [B, T] of the labels, the teacher's [B, T] or None, the microbatch) -> [terms] local
            sums, differentiable by the first. Both are 0 where nothing is to be predicted.
        count: see `Objective.counts`.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    loss: Callable[[Tensor, Tensor | None, Batch], Tensor]
    count: Callable[[Batch], Sequence[int]]

    def counts(self, batch: Batch) -> Sequence[int]:
        return self.count(batch)

    def use(self, batch: Batch, signal: Signal | None, scales: Sequence[float]) -> HeadUse[tuple[Tensor, Tensor]]:
        mask = batch.token_mask.flatten().float()
        targets = Targets(batch.labels.flatten(), mask, _flat(signal))
        shape = batch.labels.shape

        def loss(log_probabilities: Tensor, reference: Tensor | None) -> Tensor:
            rows = None if reference is None else reference.view(shape)
            return self.loss(log_probabilities.view(shape), rows, batch)

        def objective(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
            flat = hidden.flatten(0, 1)
            found = log_probability_objective(flat, weight, bias, targets=targets, loss=loss, scales=scales)
            return found.total, found.sums

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
    return Targets(labels=batch.labels.flatten(), weights=weights, signal=_flat(signal))


def _flat(signal: Signal | None) -> Signal | None:
    """The signal with one row a token."""
    return signal and Signal(signal.hidden.flatten(0, 1), signal.head_weight, signal.head_bias)
