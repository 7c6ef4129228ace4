"""Measure importance from activations in forward passes (Minitron, arXiv 2407.14679 section 2.2).

Only activations are used, so parameters may be sharded in any way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from espalier.models.shape import ModelShape, Probe
from espalier.surgery.scores import Sums


class Meter:
    """Accumulates importance sums while a model runs. Made by `measuring`.

    The hooks only add one small reduction for each activation, without a host sync; the rest is computed once for each
    microbatch. On a GPU the cost is mostly kernel launches, so larger microbatches are cheaper.

    Attributes:
        sums: local sums so far.
    """

    def __init__(self, sums: Sums) -> None:
        self.sums = sums
        self._token_mask: Tensor | None = None
        self._recorded: dict[str, list[Tensor]] = {}

    @contextmanager
    def microbatch(self, token_mask: Tensor | None) -> Iterator[None]:
        """Context for one forward pass of the model.

        Args:
            token_mask: [B, T] bool, True where a token counts; None for all, which is faster on a GPU.
        """
        self._token_mask = token_mask
        self._recorded = {"ffn": [], "heads": [], "hidden": [], "norms": [], "moves": []}
        with torch.no_grad():
            yield
            self._add()

    def record(self, axis: str, activation: Tensor) -> None:
        """Add the sum over counted tokens of |x|: [B, T, N] -> [B, N]."""
        self._recorded[axis].append(_absolute_sum(activation, self._token_mask))

    def record_layer(self, before: Tensor, after: Tensor) -> None:
        """Add the norms [B, T] of a layer's input, output and their difference, from which cosines are computed."""
        if not self._recorded["norms"]:  # the other layers' inputs are the outputs before them
            self._recorded["norms"].append(_length(before))
        self._recorded["norms"].append(_length(after))
        self._recorded["moves"].append(_length(after - before))

    def _add(self) -> None:
        mask, lengths = self._token_mask, torch.stack(self._recorded["norms"])
        num_layers = len(self._recorded["moves"])
        assert num_layers == len(self.sums.layers), "one forward pass, each layer once"
        distances = _cosine_distances(lengths[:-1], lengths[1:], torch.stack(self._recorded["moves"]))
        counts = torch.full(lengths.shape[1:2], lengths.shape[2], device=lengths.device)
        if mask is not None:
            distances, counts = distances.masked_fill(~mask, 0), mask.sum(dim=1)
        self.sums.layers.add_(distances.sum(dim=(1, 2), dtype=torch.float64))
        self.sums.num_tokens.add_(counts.sum())
        self.sums.num_samples.add_((counts > 0).sum())
        for axis in ("ffn", "heads", "hidden"):
            means = _stacked(self._recorded[axis]) / counts.clamp(min=1)[:, None]
            self.sums.tensors()[axis].add_(means.square_().sum(dim=1, dtype=torch.float64))


@contextmanager
def measuring(model: nn.Module, probes: Sequence[Probe], shape: ModelShape) -> Iterator[Meter]:
    """Hook a model for the duration of this context.

    Args:
        model: in eval mode; its layers take hidden states as their first argument.
        probes: from `espalier.models.families.probes`.
        shape: of the model.

    Yields:
        The meter; run each forward pass in `meter.microbatch(token_mask)`.
    """
    device = next(model.parameters()).device
    meter = Meter(Sums.zeros(shape, device))
    handles = [handle for probe in probes for handle in _hook(model, probe, meter)]
    try:
        yield meter
    finally:
        for handle in handles:
            handle.remove()


def _hook(model: nn.Module, probe: Probe, meter: Meter) -> list[torch.utils.hooks.RemovableHandle]:
    def record_input(axis: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda module, inputs: meter.record(axis, inputs[0])

    def record_output(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        meter.record("hidden", output)

    def record_layer(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        meter.record_layer(inputs[0], output[0] if isinstance(output, tuple) else output)

    at = model.get_submodule
    return [
        at(probe.down).register_forward_pre_hook(record_input("ffn")),
        at(probe.output).register_forward_pre_hook(record_input("heads")),
        *(at(norm).register_forward_hook(record_output) for norm in probe.norms),
        at(probe.layer).register_forward_hook(record_layer),
    ]


def _stacked(rows: list[Tensor]) -> Tensor:
    """Stack L tensors [B, N] to [L, B, N]; narrower layers are padded with 0."""
    widths = [one.shape[1] for one in rows]
    if len(set(widths)) == 1:
        return torch.stack(rows)
    return torch.stack([nn.functional.pad(one, (0, max(widths) - one.shape[1])) for one in rows])


def _absolute_sum(activation: Tensor, token_mask: Tensor | None) -> Tensor:
    """Sum over counted tokens of |x|, in fp32: [B, T, N] -> [B, N]."""
    if not activation.is_cuda:
        return _absolute_sum_on_cpu(activation, token_mask)
    if token_mask is None:
        return torch.linalg.vector_norm(activation, ord=1, dim=1, dtype=torch.float32)  # one kernel, no copy
    counted = token_mask[:, None].to(activation.dtype)  # a product, because masked filling takes twice as long
    return torch.bmm(counted, activation.abs(), out_dtype=torch.float32).squeeze(1)


def _absolute_sum_on_cpu(activation: Tensor, token_mask: Tensor | None) -> Tensor:
    """The same on a CPU, row by row so that copies stay in cache; vector_norm takes three times as long."""
    counted = torch.ones(activation.shape[:2]) if token_mask is None else token_mask.float()
    rows = zip(counted, activation, strict=True)
    return torch.stack([weights @ row.abs().float() for weights, row in rows])


def _length(states: Tensor) -> Tensor:
    """Norms of states: [B, T, D] -> [B, T] fp32."""
    return torch.linalg.vector_norm(states, dim=-1, dtype=torch.float32)


def _cosine_distances(before: Tensor, after: Tensor, move: Tensor) -> Tensor:
    """1 - cosine(before, after), from the norms of both and of their difference.

    |move|^2 = |before|^2 + |after|^2 - 2 before.after. Unlike 1 minus a computed cosine this loses no digits
    where a layer changes little, and it needs no product of activations.
    """
    return (move.square() - (after - before).square()) / (2 * before * after).clamp(min=1e-30)
