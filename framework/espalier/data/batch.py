"""A microbatch: the tensors of a few sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from espalier.data.packing import NO_LABEL

__all__ = ["NO_LABEL", "Batch"]


@dataclass(frozen=True)
class Batch:
    """Tokens of a few sequences.

    Attributes:
        input_ids: [B, T] int64.
        labels: [B, T] int64, the target at each position: the token that follows, or the sample's class; NO_LABEL
            where there is none (the last token of a document, padding). Float32 with NaN for values of a regression.
        positions: [B, T] int64, position of the token inside the part of its document that is in the row (padding: 0).
        documents: [B, T] int64, which document of the row a token belongs to (padding: -1); None when every
            row lies inside one document and has no padding, so that plain causal attention is right.
        sample_ids: [B] int64, stable over epochs, workers and runs.
        sample_weights: [B] float32, factor of each sample's loss on its labels.
        signal_weights: [B] float32, factor of its loss on a teacher's signal; None: the same.
        columns: further tensors by name, [B, T, ...] or [B, ...]: inputs of the model, of which each family takes those
            that it knows (`Family.inputs`), and whatever a data format adds for an objective of its own.
    """

    input_ids: Tensor
    labels: Tensor
    positions: Tensor
    documents: Tensor | None
    sample_ids: Tensor
    sample_weights: Tensor
    signal_weights: Tensor | None = None
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def token_mask(self) -> Tensor:
        """[B, T] bool, True where a token counts."""
        return ~self.labels.isnan() if self.labels.is_floating_point() else self.labels != NO_LABEL

    def num_counted_tokens(self) -> int:
        """Tokens of this microbatch that count in a loss, local."""
        return int(self.token_mask.sum())

    def to(self, device: torch.device) -> Batch:
        held = {one.name: value for one in fields(self) if isinstance(value := getattr(self, one.name), Tensor)}
        columns = {name: tensor.to(device, non_blocking=True) for name, tensor in self.columns.items()}
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in held.items()}
        return replace(self, columns=columns, **moved)
