"""Where text comes from and how it is cut into sequences."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from espalier.config.base import Config, Count, parse_tuple


class CorpusConfig(Config):
    """One body of text. Files may be gzipped and may be globs; `hub` takes a data set's name instead."""

    source: Literal["text", "json", "csv", "parquet", "hub"]
    files: Annotated[tuple[str, ...], BeforeValidator(parse_tuple)] = ()
    dataset: str | None = None
    subset: str | None = None
    split: str = "train"
    text: str = "text"

    @model_validator(mode="after")
    def _one_origin(self) -> CorpusConfig:
        if (self.source == "hub") != (self.dataset is not None):
            raise ValueError("`dataset` goes with source: hub, and only with it")
        if (self.source != "hub") != bool(self.files):
            raise ValueError("`files` goes with source: text, json, csv or parquet; name at least one")
        return self


class HeldOutConfig(Config):
    """Take the validation text out of the training text, document by document (equal documents go together)."""

    fraction: Annotated[float, Field(gt=0.0, lt=1.0)]


class DataConfig(Config):
    """The job's data. `packed` fills every sequence, attention stays inside documents; `documents`: one each."""

    train: CorpusConfig
    valid: CorpusConfig | HeldOutConfig
    sequence_tokens: Annotated[Count, Field(ge=8)] = 1024
    layout: Literal["packed", "documents"] = "packed"
