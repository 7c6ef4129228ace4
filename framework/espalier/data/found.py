"""The outcome of a look at data before workers start."""

from __future__ import annotations

from dataclasses import dataclass

from espalier.config.faults import Fault
from espalier.config.format import DataSettings
from espalier.data.examples import Labelled


@dataclass(frozen=True)
class FoundData:
    """What is known of a data section before workers start.

    Attributes:
        settings: the section's, with what was found, such as its classes, as they are written down for workers.
        num_samples: of the training split; None where that needs tokenising.
        labelled: the samples with their labels; None where targets are words.
        remarks: sentences for people; warnings begin with that word.
        faults: what cannot work, to be told together with the faults of the plan.
    """

    settings: DataSettings
    num_samples: int | None = None
    labelled: Labelled | None = None
    remarks: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
