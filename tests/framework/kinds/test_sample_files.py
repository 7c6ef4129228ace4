"""The files that a run leaves of its samples, epoch by epoch."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from espalier.data.examples import Examples, Labelled
from espalier.data.labelled_sequences import LabelledSequences
from espalier.data.tokenizer import Encoded
from espalier.evaluation.answers import as_logits
from espalier.kinds.correct.correction import Correction
from espalier.kinds.correct.kind import CorrectStage
from espalier.kinds.correct.sample_files import SampleFiles
from espalier.tracking.epochs import EPOCHS, EpochLog, EpochRecord, list_path
from espalier.tracking.sample_reader import read_confused, read_list

COUNT = 5
STAGE = {"name": "heal", "kind": "correct", "student": "parent", "teacher": "twins", "budget": {"epochs": 9}}
STAGE |= {"batch": {"sequences": 11}, "optimizer": {"lr": 0.1}, "signal": {"min_skill": 0.0}}


def test_lists_have_the_weights_of_all_epochs_with_a_table(tmp_path: Path) -> None:
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


def test_lists_escape_formulas_and_are_read_back(tmp_path: Path) -> None:
    evil = ("=1+1", "+a", "@b", "-c", "plain")
    texts = tuple(f"{name}, \x1b[2J" for name in evil)
    samples = Examples(evil, texts, texts, np.arange(COUNT) % 2, np.ones(COUNT))
    files = SampleFiles(tmp_path, "heal", Labelled(samples, samples, ("a", "b"), ("=yes", "no")))
    belief = np.tile([0.6, 0.4], (COUNT, 1))
    correction = Correction(
        CorrectStage.model_validate(STAGE),
        LabelledSequences(samples, [Encoded([1, 2], None)] * COUNT, "first"),
        num_revisions=1,
        weights=np.ones(COUNT),
        teacher=belief,
        excluded=np.zeros(COUNT, bool),
    )
    files.write(1, correction.revise(as_logits(belief)).table, correction)
    (tmp_path / list_path("heal", "confused")).read_text()
    for row in read_confused(tmp_path, "heal", 9):
        assert (row["given"], row["answered"]) == ("no", "=yes")
    for name in ("suspects", "heaviest"):
        written = (tmp_path / list_path("heal", name)).read_text()
        assert "\x1b" not in written
        assert not [cell for cells in csv.reader(written.splitlines()) for cell in cells if cell[:1] in ("=", "+", "@")]
        rows = {row["name"]: row for row in read_list(tmp_path, "heal", name)}
        assert set(rows) == set(evil) and rows["=1+1"]["label"] == "=yes"
        assert rows["+a"]["why"].startswith("the teacher answers `=yes` with 0.60; ")
        assert rows["+a"]["probability"] == "0.6000"
        assert rows["-c"]["text"] == rows["-c"]["pair"] == r"-c, \x1b[2J"
