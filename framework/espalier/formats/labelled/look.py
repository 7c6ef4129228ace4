"""Read a job's labelled tables before anything starts, and check them."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.config.labelled import LabelledConfig
from espalier.data.examples import Labelled, read_labelled
from espalier.data.found import FoundData
from espalier.formats.labelled.remarks import data_remarks


def look(data: LabelledConfig, *, seed: int, path: str) -> FoundData:
    """See `DataFormat.look`. The classes that were found are written down in the settings.

    Raises:
        RefusedInput: what `read_labelled` refuses.
    """
    labelled = read_labelled(data, seed=seed)
    return FoundData(
        data.model_copy(update={"labels": labelled.classes}),
        num_samples=len(labelled.train),
        labelled=labelled,
        remarks=data_remarks(data, labelled, path=path),
        faults=tuple(_metric_faults(data, labelled, path=path)),
    )


def _metric_faults(data: LabelledConfig, labelled: Labelled, *, path: str) -> Iterator[Fault]:
    """Yield the fault of a metric for two classes where there are more."""
    num_classes = len(labelled.classes)
    if data.watched == "f1" and num_classes != 2:
        allowed = f"f1_macro or f1_weighted, as there are {num_classes} classes and f1 is that of the second of two"
        yield Fault(f"{path}.metric", data.metric, allowed)
