"""Small labelled data, answers of a teacher and of a student, and the state of a `correct` stage over them."""

from __future__ import annotations

from typing import Any

import numpy as np

from espalier.data.examples import Examples
from espalier.data.labelled_sequences import LabelledSequences
from espalier.data.tokenizer import Encoded
from espalier.evaluation.answers import as_logits, probabilities
from espalier.kinds.correct.correction import Correction, Revision
from espalier.kinds.correct.kind import CorrectStage

COUNT, CLASSES = 13, 3
TARGETS = np.arange(COUNT) % CLASSES
NUMBERS = np.linspace(-1.0, 2.0, COUNT)


def stage(**settings: Any) -> CorrectStage:
    needed = {
        "name": "heal",
        "kind": "correct",
        "student": "parent",
        "teacher": "twins",
        "budget": {"epochs": 5},
        "batch": {"sequences": 1},
        "optimizer": {"lr": 0.1},
    }
    signal = {"min_skill": 0.0} | settings.get("signal", {})  # random answers have none
    return CorrectStage.model_validate(needed | settings | {"signal": signal})


def samples(targets: np.ndarray = TARGETS, own_weights: np.ndarray | None = None) -> LabelledSequences:
    names = tuple(map(str, range(COUNT)))
    examples = Examples(names, names, None, targets, np.ones(COUNT) if own_weights is None else own_weights)
    return LabelledSequences(examples, [Encoded([1, 2], None)] * COUNT, "first")


def answers(seed: int, *, width: int = CLASSES) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.dirichlet(np.ones(width), COUNT) if width > 1 else NUMBERS[:, None] + draw.normal(size=(COUNT, 1))


def correction(
    config: CorrectStage,
    *,
    targets: np.ndarray = TARGETS,
    teacher: np.ndarray | None = None,
    is_held_out: bool = False,
    excluded: list[int] | None = None,
    num_revisions: int = 5,
) -> Correction:
    return Correction(
        config,
        samples(targets),
        num_revisions=num_revisions,
        weights=np.ones(COUNT),
        teacher=teacher,
        is_held_out=is_held_out,
        excluded=np.isin(np.arange(COUNT), excluded or []),
    )


def revise(correction: Correction, seed: int, *, width: int = CLASSES) -> Revision:
    return correction.revise(as_logits(answers(seed, width=width)))


def signal(correction: Correction) -> np.ndarray:
    return probabilities(correction.source.logits)


def state(correction: Correction) -> list[Any]:
    """Everything the next steps see."""
    sequences = correction.sequences
    return [sequences.label_weights, sequences.signal_weights, correction.source.logits.numpy(), correction.doubt]
