"""What a masked language model is asked for: a function of the sample and the step, in the shares that were asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from espalier.data.batch import NO_LABEL, Batch
from espalier.training.masking import Masking

MASKING = Masking(share=0.15, mask_id=2, special_ids=(0,), vocabulary=1000, seed=5)


def batch_of(rows: int = 400, length: int = 60) -> Batch:
    ids = torch.randint(3, 1000, (rows, length), generator=torch.Generator().manual_seed(1))
    ids[:, 20] = 0
    documents = torch.zeros_like(ids)
    documents[:, 50:] = -1
    return Batch(ids, ids.roll(-1, 1), ids * 0, documents, torch.arange(rows), torch.ones(rows))


def test_labels_are_at_masked_tokens_only() -> None:
    batch = batch_of()
    hidden = MASKING.apply(batch, step=3)
    asked = hidden.labels != NO_LABEL
    assert (asked.sum(1) == round(0.15 * 49)).all()
    assert not asked[:, 50:].any() and not asked[:, 20].any(), "neither padding nor ends of documents"
    assert hidden.labels[asked].equal(batch.input_ids[asked])
    assert hidden.input_ids[~asked].equal(batch.input_ids[~asked])
    shown = hidden.input_ids[asked]
    masked, kept = (shown == 2).float().mean(), (shown == batch.input_ids[asked]).float().mean()
    assert masked == pytest.approx(0.8, abs=0.03) and kept == pytest.approx(0.1, abs=0.03)


def test_masking_depends_on_sample_and_step_alone() -> None:
    batch = batch_of(rows=6)
    whole = MASKING.apply(batch, step=3)
    rows = torch.tensor([4, 1])
    fields = ("input_ids", "labels", "positions", "documents", "sample_ids", "sample_weights")
    part = MASKING.apply(replace(batch, **{name: getattr(batch, name)[rows] for name in fields}), step=3)
    assert part.input_ids.equal(whole.input_ids[rows]) and part.labels.equal(whole.labels[rows])
    assert not MASKING.apply(batch, step=4).labels.equal(whole.labels)


def test_every_row_has_a_masked_token_unless_it_is_empty() -> None:
    batch = batch_of(rows=3, length=60)
    short = replace(batch, documents=torch.full_like(batch.documents, -1))
    short.documents[0, :2] = 0
    labels = MASKING.apply(short, step=0).labels
    assert (labels != NO_LABEL).sum(1).tolist() == [1, 0, 0]
