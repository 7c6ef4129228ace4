"""Epochs over labelled samples as a `correct` stage records them, for the tests of tracking and report."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from espalier.tracking.epochs import EPOCHS, EpochLog, EpochRecord, list_path, names_path, table_path
from espalier.tracking.samples import SampleTable, write_names, write_samples

NUM_SAMPLES = 97
STEPS_EACH = 3
COLUMNS = ("name", "sample", "doubt", "label", "teacher", "student", "loss", "weights", "text", "pair")
CONFUSED_COLUMNS = ("given", "answered", "samples", "probability", "noise")
CLASSES = ("bad", "good")


def epoch(number: int, *, stage: str = "heal", before: int = 0, attempt: int = 1, plain: bool = False) -> EpochRecord:
    """Epoch `number` of a stage that comes after `before` steps of others; `plain`: one without samples."""
    return EpochRecord(
        stage=stage,
        epoch=number,
        step=STEPS_EACH * number,
        global_step=before + STEPS_EACH * number,
        attempt=attempt,
        time=1000.5 + 100 * attempt + before + STEPS_EACH * number,
        metrics={"accuracy": 0.5 + 0.1 * number, "f1": 0.25, "loss": 0.75 - 0.125 * number},
        correction={} if plain else _correction(number),
        samples=None if plain else str(table_path(stage, number)),
    )


def _correction(number: int) -> dict[str, float]:
    return {"agreement": 0.75 + number / 16, "alpha": 1.5 / number, "error": 0.25, "effective_share": 1 - number / 8}


def weights(number: int, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    """[N] of an epoch: the last sample is the heaviest, ever more so; the mean is 1."""
    raised = 1.0 + number * (np.arange(num_samples) / num_samples) ** 3
    return (raised / raised.mean()).astype(np.float32)


def write_epoch(folder: Path, record: EpochRecord, *, num_samples: int = NUM_SAMPLES, bare: bool = False) -> None:
    """Samples and line of an epoch. `bare`: with no more of a sample than text has: no answers, no names."""
    if record.samples is not None:
        samples = np.arange(num_samples)
        answers = {"teacher": (samples % 2).astype(np.int16), "student": (samples % 3 == 0).astype(np.int16)}
        table = SampleTable(weights(record.epoch, num_samples), np.full(num_samples, 0.5, np.float32))
        if not bare:
            table = SampleTable(table.weight, table.loss, **answers)
            write_names(folder / names_path(record.stage), [f"s{sample:03d}" for sample in samples])
        write_samples(folder / record.samples, table, data="d")
    EpochLog(folder / EPOCHS).append(record)


def write_list(
    folder: Path,
    stage: str,
    name: str,
    samples: list[int],
    *,
    text: str = "text",
    pair: str = "",
    labels: Mapping[int, str] | None = None,
    **added: str,
) -> None:
    """A list of samples such as suspects.csv; `added`: columns that earlier versions did not write."""
    path = folder / list_path(stage, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *added])
        for sample in samples:
            words = ((labels or {}).get(sample, CLASSES[1]), CLASSES[sample % 2], CLASSES[sample % 3 == 0])
            texts = (f"{text} {sample}", pair)
            writer.writerow([f"s{sample:03d}", sample, "0.9", *words, "1.2", "1.0", *texts, *added.values()])


def write_confused(folder: Path, stage: str, rows: Iterable[tuple[object, ...]]) -> None:
    """The list of confused classes."""
    path = folder / list_path(stage, "confused")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([CONFUSED_COLUMNS, *rows])
