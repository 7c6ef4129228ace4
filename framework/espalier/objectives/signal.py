"""What a teacher tells the student about one microbatch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Signal:
    """The teacher's last hidden states and the head that turns them into logits.

    Hidden states travel instead of logits: [B, T, D] beside [B, T, V] is two orders of magnitude smaller, and
    the chunked objectives never need more than a chunk of logits.

    Attributes:
        hidden: [B, T, D] of the teacher, after its final norm, detached.
        head_weight: [V, D] of the teacher.
        head_bias: [V] or None.
        states: layer, counted from 1 -> its hidden states [B, T, D], detached; of the layers that were asked for.
    """

    hidden: Tensor
    head_weight: Tensor
    head_bias: Tensor | None = None
    states: Mapping[int, Tensor] = field(default_factory=dict)
