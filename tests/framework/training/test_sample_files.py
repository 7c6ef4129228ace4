"""The files that a run leaves of its samples, epoch by epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from espalier.config.stages import CorrectStage
from espalier.data.examples import Examples, Labelled
from espalier.data.labelled_sequences import LabelledSequences
from espalier.data.tokenizer import Encoded
from espalier.evaluation.answers import as_logits
from espalier.tracking.epochs import EPOCHS, EpochLog, EpochRecord
from espalier.tracking.notable import read_list
from espalier.training.correction import Correction
from espalier.training.sample_files import SampleFiles

COUNT = 5
STAGE = {"name": "heal", "kind": "correct", "student": "parent", "teacher": "twins", "budget": {"epochs": 9}}
STAGE |= {"batch": {"sequences": 11}, "optimizer": {"lr": 0.1}, "signal": {"min_skill": 0.0}}


def test_the_weights_over_the_epochs_are_of_those_that_have_a_file(tmp_path: Path) -> None:
    """A step of more than all samples ends several epochs at once, and a file of an earlier attempt may be gone."""
    names = tuple(map(str, range(COUNT)))
    samples = Examples(names, names, None, np.arange(COUNT) % 2, np.ones(COUNT))
    files = SampleFiles(tmp_path, "heal", Labelled(samples, samples, ("a", "b"), ("a", "b")))
    draw, log = np.random.default_rng(3), EpochLog(tmp_path / EPOCHS)
    correction = Correction(
        CorrectStage.model_validate(STAGE),
        LabelledSequences(samples, [Encoded([1, 2], None)] * COUNT, "first"),
        num_revisions=4,
        weights=np.ones(COUNT),
        teacher=draw.dirichlet(np.ones(2), COUNT),
        excluded=np.arange(COUNT) == 0,
    )
    weights = {}
    for step, epoch in enumerate((2, 4, 6, 8), start=1):
        table = correction.revise(as_logits(draw.dirichlet(np.ones(2), COUNT))).table
        path, weights[epoch] = files.write(epoch, table, correction), table.weight
        log.append(EpochRecord("heal", epoch, step, step, 1, 0.0, samples=path))
        if epoch == 4:
            (tmp_path / path).unlink()
    suspects = read_list(tmp_path, "heal", "suspects")
    assert len(suspects) == COUNT and suspects[-1]["sample"] == "0"
    for row in suspects:
        expected = [f"{weights[epoch][int(row['sample'])]:.3f}" for epoch in (2, 6, 8)]
        assert row["weights"].split() == expected
