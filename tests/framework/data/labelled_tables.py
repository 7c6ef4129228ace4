"""Small tables with labels, and what is said of those that are refused."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from espalier.config.faults import RefusedInput
from espalier.config.labelled import LabelledConfig
from espalier.data.examples import Labelled, read_labelled


def write_csv(path: Path, rows: Iterable[Iterable[Any]], *, header: Iterable[str] = ("text", "label")) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([list(header), *rows])
    return path


def origin(path: Path, **settings: Any) -> dict[str, Any]:
    return {"source": "csv", "files": [str(path)], **settings}


def read(train: dict[str, Any], valid: dict[str, Any] | None = None, *, seed: int = 1, **data: Any) -> Labelled:
    settings = {"task": "classification", "train": train, "valid": valid or {"fraction": 0.25}, **data}
    return read_labelled(LabelledConfig.model_validate(settings), seed=seed)


def refusal(train: dict[str, Any], valid: dict[str, Any] | None = None, **data: Any) -> list[str]:
    """The sentences in which a job's labelled data is refused."""
    with pytest.raises(RefusedInput) as refused:
        read(train, valid, **data)
    for fault in refused.value.faults:
        assert fault.path.startswith("data.") and fault.allowed, fault
        assert fault.value is not None or fault.given is not None, fault
    return [str(fault) for fault in refused.value.faults]
