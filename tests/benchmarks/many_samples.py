"""What the end of an epoch of `correct` costs beside asking the student: the revision and the record, by sample count.

python tests/benchmarks/many_samples.py [--counts 10000 100000 1000000] [--classes 2]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from espalier.data.examples import Examples
from espalier.data.labelled_sequences import LabelledSequences
from espalier.data.tokenizer import Encoded
from espalier.kinds.correct.correction import Correction
from espalier.kinds.correct.kind import CorrectStage
from espalier.tracking.samples import read_samples, write_samples

STAGE = {
    "name": "corrected",
    "kind": "correct",
    "student": "parent",
    "teacher": "twins",
    "budget": {"epochs": 3},
    "batch": {"sequences": 32},
    "optimizer": {"lr": 1e-4},
}


def main() -> None:
    """Three epochs of each count; the slowest revision counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--classes", type=int, default=2)
    asked = parser.parse_args()
    print(f"{'samples':>10}{'revision s':>12}{'record s':>10}{'record MB':>11}{'bytes each':>12}")
    for count in asked.counts:
        revising, writing, size = measure(count, asked.classes)
        print(f"{count:>10,}{revising:>12.3f}{writing:>10.3f}{size / 1e6:>11.2f}{size / count:>12.1f}", flush=True)


def measure(count: int, classes: int) -> tuple[float, float, int]:
    """Seconds of the revision, seconds and bytes of the record."""
    random = np.random.default_rng(0)
    targets = random.integers(0, classes, count)
    said = np.where(random.random(count) < 0.85, targets, random.integers(0, classes, count))
    teacher = 0.3 * random.dirichlet(np.ones(classes), count) + 0.7 * np.eye(classes)[said]
    names = tuple(map(str, range(count)))
    examples = Examples(names, names, None, targets, np.ones(count))
    correction = Correction(
        CorrectStage.model_validate(STAGE),
        LabelledSequences(examples, [Encoded([1, 2], None)] * count, "first"),
        num_revisions=3,
        weights=np.ones(count),
        teacher=teacher,
        excluded=np.zeros(count, dtype=bool),
    )
    revising, writing, size = 0.0, 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for epoch in range(3):
            student = torch.from_numpy(random.normal(size=(count, classes))) + 2.0 * torch.from_numpy(teacher)
            began = time.perf_counter()
            revision = correction.revise(student)
            revised = time.perf_counter()
            path = Path(folder) / f"epoch-{epoch}.parquet"
            write_samples(path, revision.table, data="benchmark")
            writing = max(writing, time.perf_counter() - revised)
            revising, size = max(revising, revised - began), max(size, path.stat().st_size)
            assert np.array_equal(read_samples(path).weight, revision.table.weight)
    return revising, writing, size


if __name__ == "__main__":
    main()
