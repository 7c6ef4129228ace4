"""Importance scores, and the sums over calibration text from which they are computed."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from espalier.config.faults import Fault, RefusedInput
from espalier.models.shape import ModelShape


@dataclass(frozen=True)
class Sums:
    """The sums of this worker so far, in float64.

    The sums of two workers, or of two parts of the data, can be added.

    Attributes:
        ffn: [L, F] over samples of (mean over tokens of |x|) squared, at the input of the down projection.
        heads: [L, H * head_dim] the same at the input of the output projection.
        hidden: [2 L, D] the same at the outputs of both norms of each layer.
        layers: [L] over tokens of 1 - cosine(input, output).
        num_samples: [] sequences with a counted token.
        num_tokens: [] counted tokens.
    """

    ffn: Tensor
    heads: Tensor
    hidden: Tensor
    layers: Tensor
    num_samples: Tensor
    num_tokens: Tensor

    @staticmethod
    def zeros(shape: ModelShape, device: torch.device | str = "cpu") -> Sums:
        sizes = {
            "ffn": (shape.layers, shape.ffn),
            "heads": (shape.layers, shape.heads * shape.head_dim),
            "hidden": (2 * shape.layers, shape.hidden),
            "layers": (shape.layers,),
            "num_samples": (),
            "num_tokens": (),
        }
        return Sums(**{name: torch.zeros(size, dtype=torch.float64, device=device) for name, size in sizes.items()})

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, not copies, so that they can be summed over ranks in place."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def finish(self, shape: ModelShape) -> Scores:
        """Compute the scores from global sums; on the CPU.

        Activations are aggregated by the mean over tokens and the L2 norm over samples (arXiv 2407.14679), heads also
        by the L2 norm over their width; hidden channels by the sum over the norms of all layers.
        """
        assert self.num_tokens > 0, "nothing was measured"
        heads = self.heads.unflatten(1, (shape.heads, shape.head_dim)).sum(dim=2)
        return Scores(
            ffn=self.ffn.sqrt().float().cpu(),
            heads=heads.sqrt().float().cpu(),
            hidden=self.hidden.sqrt().sum(dim=0).float().cpu(),
            layers=(self.layers / self.num_tokens).float().cpu(),
        )


@dataclass(frozen=True)
class Scores:
    """Importance of each unit; only the order within an axis has a meaning. CPU, float32.

    Attributes:
        ffn: [L, F].
        heads: [L, H] query heads.
        hidden: [D].
        layers: [L] mean of 1 - cosine(input, output), 0 for a layer that changes nothing.
    """

    ffn: Tensor
    heads: Tensor
    hidden: Tensor
    layers: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """By name, as safetensors stores them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor]) -> Scores:
        """The inverse of `tensors`."""
        return Scores(**{field.name: tensors[field.name] for field in fields(Scores)})

    def check(self, parent: ModelShape) -> None:
        """Raise RefusedInput if the scores were measured on a model of another shape."""
        wanted = {
            "ffn": (parent.layers, parent.ffn),
            "heads": (parent.layers, parent.heads),
            "hidden": (parent.hidden,),
            "layers": (parent.layers,),
        }
        given = {name: tuple(tensor.shape) for name, tensor in self.tensors().items()}
        if given != wanted:
            remedy = f"scores of the model that is pruned ({wanted}); leave `scores` out to measure it"
            raise RefusedInput([Fault("scores", given, remedy)])
