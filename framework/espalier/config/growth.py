"""Settings that several growth stages and recipes share: depth maps, depth sampling, models from scratch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from espalier.config.base import Config, Count, Words
from espalier.config.families import ScratchFamilyNames, scratch_faults
from espalier.config.faults import Fault, RefusedInput
from espalier.config.paths import ModelSource

DepthOperator = Literal["interpolate", "stack", "copy_last", "identity", "random"]
SharingMap = Literal["interpolate", "stack"]
"""Maps that use every layer of the shallow model about equally often, so that layers can be shared."""
NewMoments = Literal["copied", "averaged", "zero"]
DepthSampler = Literal["lvps", "uniform", "edge", "constant"]


class DepthSamplingConfig(Config):
    """Depth sampling (Apollo, arXiv 2401.09192): a random number of layers for each microbatch."""

    depth: Count
    """The largest number of layers: those of the model that this one will be grown into."""
    sampler: DepthSampler = "lvps"
    order: SharingMap = "interpolate"
    """How the model's layers are repeated to reach the drawn depth. The growth stage that follows has to place copies
    in the same order: operator `identity` fits interpolate; `copy_last` and `random` fit neither."""


class UnrolledConfig(Config):
    """Evaluate a model at a larger depth than its own, with its layers repeated in this order."""

    depth: Count
    order: SharingMap = "interpolate"


class TrainTokenizer(Config):
    """A byte-level BPE tokenizer trained on the training text; the same text gives the same tokenizer."""

    vocabulary: Annotated[Count, Field(ge=300, le=2**24)]


class FromScratch(Config):
    """A randomly initialised model: its family and shape, and a tokenizer, either a published or a trained one."""

    family: Annotated[str, ScratchFamilyNames(), Words("the name of an installed model family, such as llama")]
    """A model family that supports random initialisation."""
    layers: Count
    hidden: Count
    heads: Count
    kv_heads: Count | None = None
    """Number of key-value heads, in families with grouped-query attention; the same as heads when left out."""
    ffn: Count | None = None
    """Four times hidden when left out; in families whose MLP has a gate 8/3 of it, a multiple of 64."""
    positions: Count = 1024
    tied: bool = True
    """Whether the output head is tied to the embedding."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    tokenizer: ModelSource | None = None
    """A folder or hub name whose tokenizer is used."""
    train_tokenizer: TrainTokenizer | None = None

    @model_validator(mode="after")
    def _fits(self) -> FromScratch:
        faults = []
        if (self.tokenizer is None) == (self.train_tokenizer is None):
            faults.append(Fault("tokenizer", self.tokenizer, "either tokenizer or train_tokenizer"))
        if self.hidden % self.heads:
            faults.append(Fault("hidden", self.hidden, f"a multiple of the {self.heads} heads"))
        faults += scratch_faults(self)
        if faults:
            raise RefusedInput(faults)
        return self
