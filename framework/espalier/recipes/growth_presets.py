"""Published schedules for growing a model in depth: depths, boundaries, depth sampling and operator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from espalier.config.growth import DepthOperator, DepthSampler, FromScratch, SharingMap

GrowthPreset = Literal["late_stack", "apollo", "gradual_stack", "g_stack", "one_layer_to_full", "scratch"]


@dataclass(frozen=True)
class GrowthSchedule:
    """In which phases a model of `depths[-1]` layers is grown: a phase trains at one depth, growth comes between.

    Attributes:
        depths: layers in each phase, ascending.
        boundaries: where each phase but the last ends, as shares of the budget.
        sampling: how depths above a phase's own are sampled; None: no depth sampling.
    """

    depths: tuple[int, ...]
    boundaries: tuple[float, ...]
    sampling: DepthSampler | None
    operator: DepthOperator

    @property
    def shared_order(self) -> SharingMap:
        """The order in which drawn depths share layers: the one in which they are copied when the model grows."""
        assert self.operator in ("interpolate", "stack"), self.operator
        return "stack" if self.operator == "stack" else "interpolate"


def preset_schedule(preset: GrowthPreset, shape: FromScratch, *, budget_tokens: float) -> GrowthSchedule:
    """The schedule of a preset for a model of this shape; equal depths, as shallow models have them, become one phase.

    * `apollo`: 1, 1/4, 1/2 and all layers, ending at 5, 10 and 25 % (arXiv 2401.09192, full-size scripts).
    * `late_stack`: 1/4, 1/2 and all, ending at 30 and 50 % (the cheapest of our own measurements at equal loss).
    * `gradual_stack`: the same depths, ending at 15 and 35 %.
    * `g_stack`: a quarter, then all (arXiv 2405.15319), after the tokens of `g_stack_tokens`.
    * `one_layer_to_full`: one layer until 80 % (arXiv 2511.04981, which asks for a rate that is constant there and
      falls over the last tenth; `ProgressiveGrowth` sees to that).
    * `scratch`: all layers from the first step.
    """
    shares, boundaries, sampling, operator = _preset(preset, shape, budget_tokens)
    depths = [max(1, round(share * shape.layers)) for share in shares]
    distinct = [place for place in range(len(depths)) if depths[place] not in depths[place + 1 :]]
    return GrowthSchedule(
        tuple(depths[place] for place in distinct),
        tuple(boundaries[place] for place in distinct[:-1]),
        sampling,
        operator,
    )


def _preset(
    preset: GrowthPreset, shape: FromScratch, budget_tokens: float
) -> tuple[tuple[float, ...], tuple[float, ...], DepthSampler | None, DepthOperator]:
    """Shares of the layers, boundaries, sampler and operator; see `preset_schedule`."""
    match preset:
        case "apollo":
            return (0, 1 / 4, 1 / 2, 1), (0.05, 0.10, 0.25), "lvps", "interpolate"
        case "late_stack":
            return (1 / 4, 1 / 2, 1), (0.30, 0.50), None, "stack"
        case "gradual_stack":
            return (1 / 4, 1 / 2, 1), (0.15, 0.35), None, "stack"
        case "g_stack":
            return (1 / 4, 1), (_g_stack_share(shape, budget_tokens),), None, "stack"
        case "one_layer_to_full":
            return (0, 1), (0.8,), None, "interpolate"
        case "scratch":
            return (1,), (), None, "stack"


def g_stack_tokens(parameters: float, flops: float) -> float:
    """Tokens to train the small model for: log10 d = 0.88 log10 N + 163.27 / log10 C - 5.74 (arXiv 2405.15319).

    Args:
        parameters: N, of the model that is grown to.
        flops: C, of the whole training.
    """
    return 10 ** (0.88 * math.log10(parameters) + 163.27 / math.log10(flops) - 5.74)


def _g_stack_share(shape: FromScratch, budget_tokens: float) -> float:
    """The small model's share of the budget; a fifth where the formula, fitted above 1e18 FLOPs, gives over half."""
    parameters = 12 * shape.layers * shape.hidden**2
    share = g_stack_tokens(parameters, 6 * parameters * budget_tokens) / budget_tokens
    return share if share <= 0.5 else 0.2
