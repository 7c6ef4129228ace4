"""Text that a `correct` stage weighs: what is recorded of a sequence is what its batches carry."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from espalier.data.batches import make_batch
from espalier.data.packing import Row
from espalier.kinds.correct import corrected_text
from espalier.kinds.correct.corrected_text import CorrectedText
from espalier.kinds.correct.kind import CorrectStage
from espalier.tracking.samples import read_samples

COUNT = 7


class Rows:
    """Sequences of two tokens."""

    def __len__(self) -> int:
        return COUNT

    def row(self, index: int) -> Row:
        ids = np.array([index, index + 1])
        return Row(input_ids=ids, labels=ids, positions=np.arange(2), documents=np.zeros(2, dtype=np.int64))


@pytest.mark.parametrize("counts_in", ["label", "signal", "both"])
def test_the_recorded_weight_is_the_factor_that_batches_carry(
    counts_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        corrected_text, "sequence_distances", lambda *args, **kwargs: torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0])
    )
    settings: dict[str, Any] = {"name": "heal", "kind": "correct", "student": "parent", "teacher": "large"}
    settings |= {"budget": {"epochs": 5}, "batch": {"sequences": 1}, "optimizer": {"lr": 0.1}}
    stage = CorrectStage.model_validate(settings | {"weights": {"counts_in": counts_in}})
    context: Any = SimpleNamespace(
        config=stage,
        world=SimpleNamespace(is_rank_zero=True),
        folder=SimpleNamespace(path=tmp_path),
        activity=lambda text: None,
    )
    prepared: Any = SimpleNamespace(sequences=Rows(), resumed=None)
    found = CorrectedText.open(context, prepared)
    source: Any = object()
    engine: Any = SimpleNamespace(evaluate=None)
    figures, path = found.revise(1, engine, source)
    assert path is not None
    batch = make_batch(found.sequences, np.arange(COUNT))
    carried = batch.signal_weights if counts_in == "signal" else batch.sample_weights
    recorded = read_samples(tmp_path / path).weight
    assert carried is not None and recorded.tolist() == carried.tolist() and recorded.std() > 0.1
    assert figures["largest_weight"] == pytest.approx(float(carried.max()), rel=1e-6)
