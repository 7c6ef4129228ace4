"""A stock model under one forward: body, then a head that computes losses or logits from hidden states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from espalier.data.batch import Batch
from espalier.models.addition import Addition
from espalier.models.families.registry import FAMILIES
from espalier.models.hidden_states import StatesUse, recorded
from espalier.models.virtual_depth import VirtualDepth

T = TypeVar("T")
HeadUse = Callable[[Tensor, Tensor, Tensor | None], T]
"""(hidden [B, T, D], head weight [V, D], head bias [V] or None) -> whatever is wanted of them."""


class Head(nn.Module):
    """The last linear map of a model, without a logits tensor of its own.

    Under zero_level parameters a weight exists only while its module's forward runs, so whatever needs the head's
    weight (an objective, a measurement) comes here and is called with it. Called with hidden states alone it gives
    logits, as transformers' own generation expects.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias

    def forward(self, hidden: Tensor, use: HeadUse[T] | None = None) -> T | Tensor:
        if use is None:
            return nn.functional.linear(hidden, self.weight, self.bias)
        return use(hidden, self.weight, self.bias)


class Network(nn.Module):
    """Body and head under one forward, which is all that an engine ever calls.

    Attributes:
        model: a stock transformers model; parameter names on disk are its names.
        beside: modules of additions that uses of the head call by name; no part of the model.
    """

    def __init__(self, model: PreTrainedModel, *, causal: bool) -> None:
        super().__init__()
        self.model = model
        self.beside = nn.ModuleDict()
        self._added: dict[str, nn.Parameter] = {}
        self._causal = causal
        family = FAMILIES[model.config.model_type]
        self._stock, self._inputs = family.classes[type(model).__name__], family.inputs
        if self._stock.head is not None:
            linear = model.get_submodule(self._stock.head)
            assert isinstance(linear, nn.Linear)
            model.set_submodule(self._stock.head, Head(*linear.parameters()))
        self._depth = VirtualDepth(model)

    def run_layers(self, order: Sequence[int] | None) -> None:
        """Let the next passes run these of the layers, in this order; None for each once."""
        self._depth.run_layers(order)

    def checkpoint_activations(self) -> None:
        """Compute each layer again in the backward pass instead of keeping what it computed on the way."""
        self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        # Stock code has the embedding's output ask for a gradient, and backward would go all the way down to it.
        self.model.disable_input_require_grads()

    @property
    def head(self) -> Head:
        """The last linear map, from hidden states that have passed `before_head` of its `StockClass` to logits.

        Raises:
            ValueError: a bare body has none.
        """
        if self._stock.head is None:
            raise ValueError(f"{type(self.model).__name__} has no head to train")
        head = self.model.get_submodule(self._stock.head)
        assert isinstance(head, Head)
        return head

    @property
    def layers(self) -> list[nn.Module]:
        """The model's layers, in order."""
        return [module for module in self.model.modules() if isinstance(module, GradientCheckpointingLayer)]

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """All that can be trained, by its name on disk: the model's parameters, then those of the additions."""
        return self.model_weights | self._added

    @property
    def model_weights(self) -> dict[str, nn.Parameter]:
        """The model's own parameters, by name."""
        added = set(self._added.values())
        return {name: weight for name, weight in self.model.named_parameters() if weight not in added}

    def add(self, addition: Addition) -> None:
        """Put the modules of an addition in place.

        Raises:
            ValueError: it takes a name that is there, adds other parameters than it declares, renames the model's, or
                has some outside of the layers that may be unused.
        """
        before, who = self.weights, type(addition).__name__
        for name, one in addition.parameters.items():
            if one.may_be_unused and not 0 <= one.place[0] < len(self.layers):
                raise ValueError(f"{who}: {name} may be unused and is in no layer")
        added = dict(addition.attach(self))
        if added.keys() != addition.parameters.keys() or not added.keys().isdisjoint(before):
            raise ValueError(f"{who} adds {sorted(added)} and declares {sorted(addition.parameters)}")
        self._added |= added
        now = self.weights
        if missing := before.keys() - now.keys():
            raise ValueError(f"{who} renames parameters of the model, such as {min(missing)}")
        if more := now.keys() - before.keys() - added.keys():
            raise ValueError(f"{who} has parameters of its own that it does not declare, such as {min(more)}")

    def forward(self, batch: Batch, use: HeadUse[T] | StatesUse[T] | None = None) -> T | Tensor:
        """Run the model on a microbatch up to its head; then the head with `use`, or return its input [B, T, D]."""
        if isinstance(use, StatesUse):
            hidden, use = self._with_states(batch, use)
        else:
            hidden = self.body(batch)
        hidden = self._stock.before_head(self.model, hidden)
        return hidden if use is None else self.head(hidden, use)

    def _with_states(self, batch: Batch, wanted: StatesUse[T]) -> tuple[Tensor, HeadUse[T]]:
        """The last hidden states of a microbatch, and a use of the head that gets the recorded ones, too."""
        with recorded(self.layers, wanted.layers) as states:
            last = self.body(batch)
        named = zip(wanted.layers, wanted.projections, strict=True)
        found = tuple(self.beside[name](states[layer]) if name else states[layer] for layer, name in named)
        return last, lambda hidden, weight, bias: wanted.use(hidden, weight, bias, found)

    def body(self, batch: Batch) -> Tensor:
        """Hidden states [B, T, D] of a microbatch after the last layer and the final norm."""
        return self.model.base_model(
            input_ids=batch.input_ids,
            position_ids=batch.positions,
            attention_mask=None if self._causal else document_mask(batch),
            use_cache=False,
            return_dict=True,  # whatever the model's config.json asks of its callers
            **{name: batch.columns[name] for name in self._inputs if name in batch.columns},
        ).last_hidden_state

    @torch.no_grad()
    def continuation(self, ids: Sequence[int], *, max_new_tokens: int, pad_id: int | None) -> list[int]:
        """Greedy continuation of a prompt by a causal model, in which no 4-gram occurs twice."""
        prompt = torch.tensor([list(ids)], device=self.model.device)
        causal = cast(Any, self.model)  # `generate` is typed for a class that transformers does not publish
        written: Tensor = causal.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            no_repeat_ngram_size=4,
            pad_token_id=pad_id,
        )
        found: list[int] = written[0, len(ids) :].tolist()
        return found


@contextmanager
def evaluating(network: Network) -> Iterator[None]:
    """Switch dropout off inside."""
    network.eval()
    try:
        yield
    finally:
        network.train()


def document_mask(batch: Batch) -> Tensor | None:
    """[B, 1, T, T] bool of an encoder, True where a token may look: everywhere inside its own document.

    None when that is the whole row, which lets the fastest kernel run. Padding (document -1) looks at padding, so that
    no row of the softmax is empty.

    A decoder gets no mask from us. Stock code begins a new document wherever `position_ids` do not go up by one, as
    they do at each document's first token and at each padding token, and lays its own window, or that of each layer,
    over each document alone.
    """
    if batch.documents is None:
        return None
    return (batch.documents[:, :, None] == batch.documents[:, None, :])[:, None]
