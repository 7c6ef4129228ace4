"""Check the metric of labelled data."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.config.labelled import LabelledConfig
from espalier.data.examples import Labelled


def metric_faults(data: LabelledConfig, labelled: Labelled, *, path: str) -> Iterator[Fault]:
    """Yield the fault of a metric for two classes where there are more."""
    num_classes = len(labelled.classes)
    if data.watched == "f1" and num_classes != 2:
        allowed = f"f1_macro or f1_weighted, as there are {num_classes} classes and f1 is that of the second of two"
        yield Fault(f"{path}.metric", data.metric, allowed)
