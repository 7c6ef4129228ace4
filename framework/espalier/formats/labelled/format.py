"""Data format `labelled`: texts or pairs of texts, each with a class or a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.config.format import DataFormat, ShownData
from espalier.config.labelled import DEFAULT_METRICS, LabelledConfig


def _shown(section: Mapping[str, Any]) -> ShownData:
    classes = tuple(section.get("names") or section.get("labels") or ())
    task = section.get("task")
    watched = section.get("metric") or DEFAULT_METRICS.get(str(task))
    if task == "regression":
        return ShownData("values", "squared_error", "squared error", watched, classes)
    return ShownData("classes", "cross_entropy", "nats per sample", watched, classes)


FORMAT = DataFormat(
    name="labelled",
    settings=LabelledConfig,
    look="espalier.formats.labelled.look:look",
    sequences="espalier.formats.labelled.sequences:sequences",
    labelled="espalier.data.examples:read_labelled",
    marked_by="task",
    shown=_shown,
)
