"""Objectives that look at hidden states of chosen layers of both models, beside those that look at logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from espalier.data.batch import Batch
from espalier.engine.objective import Objective, TokenObjective
from espalier.models.hidden_states import StatesUse
from espalier.objectives.hidden_states import hidden_state_sum, state_terms, teacher_layers
from espalier.objectives.signal import Signal
from espalier.objectives.terms import Term, names_of


@dataclass(frozen=True)
class HiddenStateObjective:
    """Losses of hidden states, and losses of logits in the same sum; see `engine/objective.py` for the shapes.

    A loss of hidden states looks at every token but padding, and is divided by their number; sample weights count. At
    least one term is of logits: without one the head would take no part in a step.

    Attributes:
        terms: all of them, in the order of the job.
        watch: see `TokenObjective`.
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
        predicted, read = batch.num_counted_tokens(), int(_is_text(batch).sum())
        return [read if term.loss.compares == "states" else predicted for term in self.terms]

    def use(self, batch: Batch, signal: Signal | None, scales: Sequence[float]) -> StatesUse[tuple[Tensor, Tensor]]:
        assert signal is not None, "hidden states are compared with a teacher's"
        of_logits = [place for place, term in enumerate(self.terms) if term.loss.compares != "states"]
        logits = self._logits.use(batch, signal, [scales[place] for place in of_logits])
        weights = _is_text(batch) * _sample_weights(batch)[:, None]

        def objective(
            hidden: Tensor, weight: Tensor, bias: Tensor | None, states: tuple[Tensor, ...]
        ) -> tuple[Tensor, Tensor]:
            total, found = logits(hidden, weight, bias)
            sums = found.new_zeros(len(self.terms))
            sums[of_logits] = found
            for place, ours, theirs in self._compared(states, signal):
                part = hidden_state_sum(self.terms[place], ours, theirs, weights=weights)
                total = total + (scales[place] * part).to(total.dtype)
                sums[place] = part.detach()
            return total, sums

        return StatesUse(self._layers, self._projections, objective)

    @cached_property
    def _logits(self) -> TokenObjective:
        return TokenObjective(tuple(term for term in self.terms if term.loss.compares != "states"), self.watch)

    @cached_property
    def _layers(self) -> tuple[int, ...]:
        """The student's layers, one for each pair of each term."""
        return tuple(layer for _, settings in state_terms(self.terms) for layer, _ in settings.layers)

    @cached_property
    def _projections(self) -> tuple[str | None, ...]:
        return tuple(name for _, settings in state_terms(self.terms) for name in settings.projections())

    def _compared(
        self, states: Sequence[Tensor], signal: Signal
    ) -> list[tuple[int, Sequence[Tensor], Sequence[Tensor]]]:
        """Each term of hidden states by its place, with the student's and the teacher's states of its pairs."""
        found: list[tuple[int, Sequence[Tensor], Sequence[Tensor]]] = []
        start = 0
        for place, settings in state_terms(self.terms):
            end = start + len(settings.layers)
            theirs = [signal.states[layer] for _, layer in settings.layers]
            found.append((place, states[start:end], theirs))
            start = end
        return found


def objective_of(terms: tuple[Term, ...], watch: Callable[[Batch, Tensor], None] | None = None) -> Objective:
    """The objective of a stage whose loss is a weighted sum of these terms."""
    if state_terms(terms):
        return HiddenStateObjective(terms, watch)
    return TokenObjective(terms, watch)


def teacher_layers_of(objective: Objective) -> tuple[int, ...]:
    """The layers of the teacher, counted from 1, whose hidden states an objective looks at."""
    return teacher_layers(objective.terms) if isinstance(objective, HiddenStateObjective) else ()


def _is_text(batch: Batch) -> Tensor:
    """[B, T] bool, False at padding."""
    return torch.ones_like(batch.token_mask) if batch.documents is None else batch.documents >= 0


def _sample_weights(batch: Batch) -> Tensor:
    """[B] weights of samples in terms that follow the teacher."""
    return batch.sample_weights if batch.signal_weights is None else batch.signal_weights
