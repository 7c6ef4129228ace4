"""Data format `preference`: prompts, each with an answer that was preferred and one that was not."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from espalier.config.base import Count, Words
from espalier.config.data import OriginConfig, Word
from espalier.config.format import DataFormat, DataSettings, ShownData


class PairsConfig(OriginConfig):
    """A table with a prompt and two answers in each row."""

    source: Literal["csv", "json", "parquet", "hub"]
    prompt: Word = "prompt"
    chosen: Word = "chosen"
    rejected: Word = "rejected"


class PreferenceConfig(DataSettings):
    """Preference pairs: prompts, each with a chosen and a rejected answer."""

    format: Literal["preference"]
    train: PairsConfig
    valid: PairsConfig
    sequence_tokens: Annotated[Count, Field(ge=8), Words("half for each answer with its prompt; longer ones are cut")]


PREFERENCE = DataFormat(
    name="preference",
    settings=PreferenceConfig,
    look="espalier_preference.pairs:look",
    sequences="espalier_preference.pairs:sequences",
    shown=lambda section: ShownData(loss="preference", unit="nats per pair"),
)
