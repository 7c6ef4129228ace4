"""What a model family declares: everything that the rest of the program asks about an architecture. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from espalier.config.faults import Fault
from espalier.models.families.config_rules import ConfigRule
from espalier.models.families.parameter_specs import Table
from espalier.models.shape import ConfigDict, ModelShape, Probe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from espalier.config.growth import FromScratch

HeadKind = Literal["none", "causal_lm", "masked_lm", "classifier"]
"""What the outputs of a stock class are: hidden states, next tokens, hidden tokens, classes (or one value)."""


def _unchanged(model: nn.Module, hidden: Tensor) -> Tensor:
    return hidden


def _no_parameters(config: ConfigDict, shape: ModelShape) -> Table:
    return {}


@dataclass(frozen=True, kw_only=True)
class StockClass:
    """A transformers class of a family: the head that it puts on the body.

    Attributes:
        head_kind: what it answers.
        head: module path of the last linear map, as `model.get_submodule` takes it; None for a bare body.
        before_head: (model, hidden states [B, T, D]) -> [B, T, D], what they pass between the body and the last map.
            Modules of the model are called whole, so that a sharded engine gathers their weights.
        parameters: of the head by their full names, in the order of `named_parameters()`; none where the last map is
            the embedding and nothing stands before it.
        ties: where the head is the embedding, names that published folders store it under -> the parameter it is.
        initialised: beginnings of the names of parameters that may start at random where a folder lacks them.
        stored_as: beginning of a tensor's name by which a folder that holds this head is known.
        transform_flops: of `before_head`, for one token.
    """

    head_kind: HeadKind
    head: str | None = None
    before_head: Callable[[nn.Module, Tensor], Tensor] = _unchanged
    parameters: Callable[[ConfigDict, ModelShape], Table] = _no_parameters
    ties: Mapping[str, str] = field(default_factory=dict)
    initialised: tuple[str, ...] = ()
    stored_as: str | None = None
    transform_flops: Callable[[ModelShape], int] = lambda shape: 0


def _no_faults(config: ConfigDict) -> Iterable[Fault]:
    return ()


@dataclass(frozen=True, kw_only=True)
class ConfigReading:
    """How the sizes of a model are read from its `config.json`, with stock transformers' defaults.

    Attributes:
        sizes: layers, hidden, ffn, heads -> their keys. A key in `optional_sizes` may be missing or null.
        kv_heads: key-value heads; as many as query heads where None.
        head_dim: width of a head that the config gives; None (or returning None) where it is hidden / heads.
        positions: rows of the learned position table; 0 where there is none.
        default_positions: `max_position_embeddings` where the config is silent.
        tied_by_default: `tie_word_embeddings` where the config is silent.
        forbidden: switches that add parameters which the table does not have.
        rules: what the values of further keys must be, beside those that all families share.
        faults: what is wrong with keys that depend on each other; asked when every rule holds.
    """

    sizes: Mapping[str, str]
    optional_sizes: tuple[str, ...] = ()
    kv_heads: Callable[[ConfigDict], object] | None = None
    head_dim: Callable[[ConfigDict], object | None] = lambda config: None
    positions: Callable[[ConfigDict], object] = lambda config: 0
    default_positions: int = 2048
    tied_by_default: bool = False
    forbidden: tuple[str, ...] = ()
    rules: Mapping[str, ConfigRule] = field(default_factory=dict)
    faults: Callable[[ConfigDict], Iterable[Fault]] = _no_faults


@dataclass(frozen=True, kw_only=True)
class ParameterTable:
    """The parameters of a body with their axes. Names begin inside the body; those of a layer inside the layer.

    Attributes:
        body: module path of the body in a model with a head.
        layers: module path of the list of layers.
        before_layers, after_layers: tables of what surrounds the layers.
        layer: (config, shape, number of the layer) -> its table. The shape counts, which may be smaller than that of
            the config; what the config lists for each layer is read by the number.
        probe: where a layer is measured.
        layers_differ: whether the tables of the layers have different shapes. Sizes of the model's shape are then
            those of the widest layer, and only depth can be grown.
    """

    body: str
    layers: str
    before_layers: Callable[[ConfigDict, ModelShape], Table]
    layer: Callable[[ConfigDict, ModelShape, int], Table]
    after_layers: Callable[[ConfigDict, ModelShape], Table] = _no_parameters
    probe: Probe
    layers_differ: bool = False


@dataclass(frozen=True, kw_only=True)
class StoredNames:
    """How published folders name tensors that are called otherwise today, or that are no parameters.

    Attributes:
        renamed: old ending -> new ending.
        buffers: endings of what is computed today.
        heads: beginnings of the names of heads of other tasks, which are left out; `v_head` is a reward model's.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    heads: tuple[str, ...] = ("lm_head.", "score.", "classifier.", "qa_outputs.", "v_head.")


@dataclass(frozen=True, kw_only=True)
class ScratchConfig:
    """Models of a family that begin with random weights.

    Attributes:
        build: the keys of `config.json` that are the family's own; those of token ids and of tying are added.
        faults: settings that the family does not read or cannot have, their paths relative to `from_scratch`.
    """

    build: Callable[[FromScratch], ConfigDict]
    faults: Callable[[FromScratch], Iterable[Fault]]


def _no_misfit(config: ConfigDict, shape: ModelShape) -> Fault | None:
    return None


def _nothing_more(config: ConfigDict, shape: ModelShape, kept_layers: Sequence[int]) -> ConfigDict:
    return {}


@dataclass(frozen=True, kw_only=True)
class Family:
    """An architecture, under the `model_type` of its configs. All functions are pure and need no torch.

    Attributes:
        classes: transformers classes whose parameters are described; the first counts where a config names none, and
            is the language model of a causal family.
        other_classes: published classes whose body is taken and whose head is left out.
        causal: whether a token sees only those before it.
        reading, table, stored: see there.
        misfit: why stock transformers would not load a shape, or would compute something else; with the axis as path.
        resize: (config, new shape, kept layers) -> keys beyond the four sizes that follow a new shape.
        residual_norm: whether the residual stream itself passes a norm after each half of a layer (post-norm), rather
            than only what the half adds to it.
        norms_after: whether the two norms of a layer stand behind its halves rather than before them.
        ends_in_projection: whether a layer's last operations are its down projection and the residual sum. Activation
            checkpointing then does not run that projection again, since no gradient asks for its output.
        row_flops: of what the body computes once for each row.
        inputs: names of the columns of a batch that the stock forward takes beside ids, positions and mask.
        token_types: number of embeddings for the texts of a pair; 1 where the family knows no pairs.
        scratch: None where the family cannot begin from random weights.
    """

    classes: Mapping[str, StockClass]
    other_classes: tuple[str, ...] = ()
    causal: bool
    reading: ConfigReading
    table: ParameterTable
    stored: StoredNames = StoredNames()
    misfit: Callable[[ConfigDict, ModelShape], Fault | None] = _no_misfit
    resize: Callable[[ConfigDict, ModelShape, Sequence[int]], ConfigDict] = _nothing_more
    residual_norm: bool = False
    norms_after: bool = False
    ends_in_projection: Callable[[ConfigDict], bool]
    row_flops: Callable[[ConfigDict, ModelShape], int] = lambda config, shape: 0
    inputs: tuple[str, ...] = ()
    token_types: Callable[[ConfigDict], int] = lambda config: 1
    scratch: ScratchConfig | None = None

    def class_for(self, head_kind: HeadKind) -> str | None:
        """Name of the stock class with a kind of head; None where the table describes none."""
        return next((name for name, stock in self.classes.items() if stock.head_kind == head_kind), None)
