"""Which table describes which `model_type`. A new family is a new module and a line here."""

from __future__ import annotations

from typing import Protocol

from espalier.config.faults import Fault
from espalier.models.families import bert, gpt2, llama
from espalier.models.families.pieces import Table
from espalier.models.shape import ConfigDict, ModelShape, Probe


class Family(Protocol):
    """What a family's module answers.

    Attributes:
        SIZES: layers, hidden, ffn, heads -> key of the config.
        ARCHITECTURES: model classes whose parameters the table names; the first counts where none is given.
        TIED_BY_DEFAULT: `tie_word_embeddings` where the config is silent.
        CAUSAL: whether a token sees only what stands before it.
        POST_NORM: whether each half of a layer ends in a norm, through which what passes the layer by goes too.
        FORBIDDEN: switches that add parameters the table does not know.
    """

    SIZES: dict[str, str]
    ARCHITECTURES: tuple[str, ...]
    TIED_BY_DEFAULT: bool
    CAUSAL: bool
    POST_NORM: bool
    FORBIDDEN: tuple[str, ...]

    def kv_heads(self, config: ConfigDict) -> object: ...
    def head_dim(self, config: ConfigDict) -> object | None: ...
    def positions(self, config: ConfigDict) -> object: ...
    def outside(self, config: ConfigDict, shape: ModelShape) -> tuple[Table, Table]: ...
    def layer(self, config: ConfigDict, shape: ModelShape) -> Table: ...
    def body(self, config: ConfigDict) -> str: ...
    def layer_path(self, config: ConfigDict, index: int) -> str: ...
    def probe(self, config: ConfigDict, index: int) -> Probe: ...
    def misfit(self, config: ConfigDict, shape: ModelShape) -> Fault | None: ...
    def resize(self, config: ConfigDict, shape: ModelShape) -> ConfigDict: ...


FAMILIES: dict[str, Family] = {
    "llama": llama,
    "mistral": llama,
    "qwen2": llama,
    "qwen3": llama,
    "gpt2": gpt2,
    "bert": bert,
}
