"""The methods that `self_correction.py` compares, each as the stages of a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from espalier.recipes.self_correction import SelfCorrection

Stage = dict[str, Any]
_NO_WEIGHTS = {"rate": 0.0}
_NO_GUARD = {"rule": "none"}
_FOLD_BUDGET = SelfCorrection.model_fields["fold_budget"].default


def needed_stages(method: str, common: Stage, folder: Path) -> list[Stage]:
    """The stages of a method; the last is called `model`. `plain@0.5` is `plain` at half the learning rate."""
    name, _, scale = method.partition("@")
    if scale:
        common = common | {"optimizer": common["optimizer"] | {"lr": float(scale) * common["optimizer"]["lr"]}}
    return METHODS[name](common, folder)


def _plain(common: Stage, folder: Path) -> list[Stage]:
    return [{"name": "model", "kind": "train", **common}]


def _longer(common: Stage, folder: Path) -> list[Stage]:
    """As many passes over the samples as self-correction takes with five fold models of half the budget."""
    budget = {"epochs": 3 * common["budget"]["epochs"]}
    return [{"name": "model", "kind": "train", **common, "budget": budget}]


def _taught_by_copy(common: Stage, **settings: Any) -> list[Stage]:
    copy = {"name": "twin", "kind": "train", **common}
    return [copy, {"name": "model", "kind": "correct", "teacher": "twin", **common, **settings}]


def _uniform(common: Stage, folder: Path) -> list[Stage]:
    return _taught_by_copy(common, weights=_NO_WEIGHTS, distrust=_NO_GUARD)


def _dcs(common: Stage, folder: Path) -> list[Stage]:
    """The reconstruction: SAMME at half its step, weights on both parts, a frozen copy."""
    return _taught_by_copy(common, weights={"rate": 0.5, "min_effective_share": 0.0}, distrust=_NO_GUARD)


def _dcs_own_past(common: Stage, folder: Path) -> list[Stage]:
    """The same, the teacher blending into the student's own past."""
    weights = {"rate": 0.5, "min_effective_share": 0.0}
    return _taught_by_copy(common, weights=weights, distrust=_NO_GUARD, signal={"own_past": [0.0, 1.0]})


def _label_boost(common: Stage, folder: Path) -> list[Stage]:
    """Boosting on label errors, without a teacher."""
    weights = {"rate": 0.5, "disagreement": "label", "min_effective_share": 0.0}
    return [
        {
            "name": "model",
            "kind": "correct",
            **common,
            "weights": weights,
            "distrust": _NO_GUARD,
            "signal": {"weight": 0.0},
        }
    ]


def _judged(common: Stage, **settings: Any) -> list[Stage]:
    budget = {"epochs": _FOLD_BUDGET * common["budget"]["epochs"]}
    read = {setting: value for setting, value in common.items() if setting != "checkpoint"}
    fold_models = {"name": "twins", "kind": "cross_fit", **read, "budget": budget}
    return [fold_models, {"name": "model", "kind": "correct", "teacher": "twins", **common, **settings}]


def _judged_uniform(common: Stage, folder: Path) -> list[Stage]:
    """Fold models as teacher, all samples alike."""
    return _judged(common, weights=_NO_WEIGHTS, distrust=_NO_GUARD, signal={"full_at_noise": 0.0})


def _ours(common: Stage, folder: Path) -> list[Stage]:
    """Every default of the stage, with fold models."""
    return _judged(common)


def _boosted(common: Stage, folder: Path) -> list[Stage]:
    """The same, and what is disagreed about is raised."""
    return _judged(common, weights={"rate": 0.5, "measure": "probability"})


def _permuted(common: Stage, folder: Path) -> list[Stage]:
    """Our last weights, dealt to other samples."""
    weights = {"rate": 0.0, "counts_in": "label", "initial": str(folder / "permuted.parquet")}
    return _judged(common, weights=weights, distrust=_NO_GUARD)


def _drop(common: Stage, folder: Path) -> list[Stage]:
    """Plain fine-tuning without the samples that cleanlab's rule flags."""
    settings = {"weights": _NO_WEIGHTS | {"disagreement": "label"}, "signal": {"weight": 0.0}}
    exclude = {"distrust": _NO_GUARD | {"exclude": str(folder / "dropped.txt")}}
    return [{"name": "model", "kind": "correct", **common, **settings, **exclude}]


METHODS: dict[str, Callable[[Stage, Path], list[Stage]]] = {
    "plain": _plain,
    "longer": _longer,
    "uniform": _uniform,
    "dcs": _dcs,
    "dcs_own_past": _dcs_own_past,
    "label_boost": _label_boost,
    "judged_uniform": _judged_uniform,
    "ours": _ours,
    "ours_boosted": _boosted,
    "drop": _drop,
    "permuted": _permuted,
}
