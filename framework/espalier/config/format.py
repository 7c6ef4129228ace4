"""How a data format is declared: its settings, how it is read, and what it gives to plan, workers and report.

A module that declares a format is imported while a job file is read, so it imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from espalier.config.base import Config
from espalier.config.plugins import load_reference

if TYPE_CHECKING:
    from espalier.config.data import HeldOutConfig, OriginConfig, SpecialTokens
    from espalier.config.labelled import Metric

Targets = Literal["words", "classes", "values"]
"""What a model predicts on data: tokens of a vocabulary, the class of a sample, or a number for it."""


class DataSettings(Config):
    """Base of the settings of a data format. Each declares the three settings below, with types of its own.

    Attributes:
        train, valid: where the samples of both splits are, or the share of the training samples that is held out.
        sequence_tokens: the most tokens of a row.
    """

    if TYPE_CHECKING:  # inherited fields would stand before those of the format in help and schema
        train: OriginConfig
        valid: OriginConfig | HeldOutConfig
        sequence_tokens: int

    @property
    def targets(self) -> Targets:
        """Words are predicted by a language model; classes and values need a head of their own."""
        return "words"

    @property
    def watched(self) -> Metric | None:
        """The metric of validation that decides; None where targets are words."""
        return None

    @property
    def around_documents(self) -> SpecialTokens | None:
        """Special tokens to put around each document; None for data that has no documents."""
        return None


@dataclass(frozen=True)
class ShownData:
    """How the report shows trainings and measurements on data.

    Attributes:
        loss: the loss term by which trainings are compared; unit: of that loss.
        watched: see `DataSettings`.
        classes: their names, in the order of a model's outputs; empty where there are none or they are not known.
    """

    targets: Targets = "words"
    loss: str = "cross_entropy"
    unit: str = "nats per token"
    watched: str | None = None
    classes: tuple[str, ...] = ()


def _shown_as_text(section: Mapping[str, Any]) -> ShownData:
    return ShownData()


@dataclass(frozen=True)
class DataFormat:
    """One format of data.

    References are `module:function`, imported when they are needed, so that a job can be read and shown without them.

    Attributes:
        name: `format` in a data section.
        settings: of a data section of this format, with a literal `format`.
        look: reference to (settings, *, seed, path) -> `espalier.data.found.FoundData`: read and check the data as far
            as it can be done before workers start. Faults and sentences name settings below `path`.
        sequences: reference to (context, split) -> Sequences: the tokenised samples of a split, on each worker.
            Collective. Rows whose labels are words carry them at the tokens before, as `espalier.data.packing` does.
        labelled: reference to (settings, *, seed) -> `espalier.data.examples.Labelled`; of a format whose targets are
            classes or values, and of no other.
        fingerprint: reference to (settings) -> str: a hash of all that rows depend on but the tokenizer, for the keys
            of stages. The default hashes settings and contents of files.
        split_fingerprints: reference to (settings) -> {split: hash}, written into the plan, so that workers need not
            read what they have tokens of already.
        documents: reference to (settings, split) -> Iterator[str], of a format that is running text.
        stands_for: names of formats in whose place it can be given to a stage, as chat can for text.
        marked_by: the key of a data section that tells this format; `format` but for formats older than that key, and
            None for the one that a section without any mark has.
        shown: (data section as in a run's job.json, maybe damaged) -> how the report shows it.
    """

    name: str
    settings: type[DataSettings]
    look: str
    sequences: str
    labelled: str | None = None
    fingerprint: str = "espalier.data.fingerprint:fingerprint"
    split_fingerprints: str | None = None
    documents: str | None = None
    stands_for: tuple[str, ...] = ()
    marked_by: str | None = "format"
    shown: Callable[[Mapping[str, Any]], ShownData] = _shown_as_text

    def __post_init__(self) -> None:
        fields = self.settings.model_fields
        if missing := [name for name in ("train", "valid", "sequence_tokens") if name not in fields]:
            raise TypeError(f"the settings of format {self.name} lack {', '.join(missing)}")
        named = get_args(fields["format"].annotation) if "format" in fields else ()
        if self.marked_by == "format" and named != (self.name,):
            raise TypeError(f"the settings of format {self.name} need a setting `format`, a literal {self.name!r}")

    def call(
        self, part: Literal["look", "sequences", "labelled", "fingerprint", "split_fingerprints", "documents"]
    ) -> Any:
        """Import the function of a part; None if the format has none."""
        reference = getattr(self, part)
        return None if reference is None else load_reference(reference)
