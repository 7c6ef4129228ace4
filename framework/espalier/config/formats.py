"""The formats of data, and the format of a `data` section."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag

from espalier.config.data import DataConfig
from espalier.config.labelled import LabelledConfig

Format = Literal["text", "labelled"]


def _data_class(value: Any) -> str:
    labelled = "task" in value if isinstance(value, dict) else isinstance(value, LabelledConfig)
    return "LabelledConfig" if labelled else "DataConfig"


AnyData = Annotated[
    Annotated[DataConfig, Tag("DataConfig")] | Annotated[LabelledConfig, Tag("LabelledConfig")],
    Discriminator(_data_class),
]
"""Text; or, with `task`, samples with labels."""


def format_of(data: DataConfig | LabelledConfig) -> Format:
    """The format of a data section."""
    return "labelled" if isinstance(data, LabelledConfig) else "text"
