"""The model families that are installed, by the `model_type` of their configs."""

from __future__ import annotations

from espalier.config.plugins import Registry
from espalier.models.families.family import Family

_HERE = "espalier.models.families"

FAMILIES = Registry(
    "espalier.families",
    Family,
    {
        "llama": f"{_HERE}.llama:LLAMA",
        "mistral": f"{_HERE}.llama:MISTRAL",
        "qwen2": f"{_HERE}.llama:QWEN2",
        "qwen3": f"{_HERE}.llama:QWEN3",
        "gpt2": f"{_HERE}.gpt2:GPT2",
        "bert": f"{_HERE}.bert:BERT",
    },
)
