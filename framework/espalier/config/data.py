"""Settings of text data: its files and how it is cut into sequences."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from espalier.config.base import Config, Count, Words, parse_tuple
from espalier.config.faults import Fault, RefusedInput
from espalier.config.format import DataSettings
from espalier.config.paths import HubName, InputFile

Word = Annotated[str, Field(min_length=1, max_length=256)]


class OriginConfig(Config):
    """Files, which may be globs and packed (gzip, bzip2, xz, zstd), or a data set of the hub."""

    source: Literal["text", "json", "csv", "tsv", "parquet", "hub"]
    files: Annotated[tuple[InputFile, ...], BeforeValidator(parse_tuple)] = ()
    """Paths or globs; relative ones count from the folder of the job file."""
    dataset: HubName | None = None
    subset: Word | None = None
    revision: Word | None = None
    """A commit or tag of the data set; the newest version when left out."""
    split: Word = "train"
    skip_blank: bool = False
    """Leave out empty files and rows with null or blank text, and tell how many; otherwise they are refused. Blank rows
    of a corpus are always left out."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        faults = []
        if self.source == "hub" and self.dataset is None:
            faults.append(Fault("dataset", None, "the name of a data set, as source: hub needs one"))
        if self.source != "hub" and self.dataset is not None:
            faults.append(
                Fault("dataset", self.dataset, f"leave it out with source: {self.source}, or use source: hub")
            )
        if self.source != "hub" and self.revision is not None:
            faults.append(Fault("revision", self.revision, f"leave it out with source: {self.source}"))
        if self.source != "hub" and not self.files:
            faults.append(Fault("files", None, f"a list of at least one file, as source: {self.source} needs"))
        if self.source == "hub" and self.files:
            faults.append(
                Fault(
                    "files",
                    self.files,
                    "leave it out with source: hub, or name the kind of the files as source",
                )
            )
        if faults:
            raise RefusedInput(faults)
        return self


class CorpusConfig(OriginConfig):
    """A corpus of text."""

    source: Literal["text", "json", "csv", "parquet", "hub"]
    text: Word = "text"
    """The column or key that holds the text."""
    cut: Literal["paragraphs"] | Annotated[Count, Words("characters at most")] | None = None
    """Source `text` only: what makes a document, a paragraph or this number of characters (cut at line or word ends);
    the whole file when left out."""

    @model_validator(mode="after")
    def _cuts_text(self) -> Self:
        if self.cut is not None and self.source != "text":
            allowed = f"leave it out; with source: {self.source} each row is a document"
            raise RefusedInput([Fault("cut", self.cut, allowed)])
        return self


class HeldOutConfig(Config):
    """Hold out a share of the training documents for validation; equal documents stay together."""

    fraction: Annotated[float, Field(gt=0.0, lt=1.0)]


def _valid_kind(value: Any) -> str:
    held_out = "fraction" in value if isinstance(value, dict) else isinstance(value, HeldOutConfig)
    return "HeldOutConfig" if held_out else "CorpusConfig"


ValidConfig = Annotated[
    Annotated[CorpusConfig, Tag("CorpusConfig")] | Annotated[HeldOutConfig, Tag("HeldOutConfig")],
    Discriminator(_valid_kind),
]


SpecialTokens = Literal["own", "end"]


class DataConfig(DataSettings):
    """Text data. Layout `packed` fills every sequence, with attention inside documents; `documents`: one a sequence."""

    train: CorpusConfig
    valid: ValidConfig
    sequence_tokens: Annotated[Count, Field(ge=8)] = 1024
    layout: Literal["packed", "documents"] = "packed"
    special_tokens: SpecialTokens = "own"
    """Special tokens around each document, and before each prompt. `own`: those that the model's tokenizer adds to a
    text, such as Llama's begin of text, and an end of text if it adds none; `end`: the end of text alone."""

    @property
    def around_documents(self) -> SpecialTokens:
        return self.special_tokens
