"""Summarise the last evaluation of a run: a headline, sentences and tiles with numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from espalier.report.changes import signed_percent
from espalier.report.metrics import METRIC_WORDS, change_text, metric_text
from espalier.report.run import RunRecord
from espalier.stages.result import Measurements
from espalier.tracking.gap import gap_words, told_gap
from espalier.tracking.number_format import count_text, flops_text, perplexity_text

Models = dict[str, dict[str, Any]]
"""Model name -> its measurements in an evaluation."""


@dataclass(frozen=True)
class Tile:
    """One number of the summary: label, value, and a note such as the value that it is compared with."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """The summary at the top of the report."""

    headline: str
    sentences: tuple[str, ...]
    tiles: tuple[Tile, ...]


def measured(run: RunRecord) -> Measured | None:
    """Summarise the last finished evaluation; None when there is none."""
    evaluation = run.evaluation()
    if evaluation is None or evaluation.measured is None:
        return None
    found, samples = evaluation.measured, evaluation.cost.samples // len(evaluation.measured.models)
    if found.watched is None:
        return _of_text(run, evaluation.stage, found)
    return _of_labels(found, found.watched, samples)


def _of_labels(measured: Measurements, watched: str, samples: int) -> Measured:
    """Summarise an evaluation on labelled data: the evaluated model, compared with the first other model."""
    name, models = measured.model, measured.models
    word, value, size = METRIC_WORDS[watched], models[name][watched], models[name]["parameters"]
    text = metric_text(watched, value)
    title = word[:1].upper() + word[1:]
    other = next((one for one in models if one != name), None)
    if other is None:
        sentence = f"{name}, on {samples} validation samples" + _uncertainty(watched, value, samples)
        return Measured(f"{title} {text}", (sentence,), (Tile(word, text),))
    base, old_size = models[other][watched], models[other]["parameters"]
    old = metric_text(watched, base)
    sentence = f"From {other} to {name}, on {samples} validation samples" + _uncertainty(watched, value, samples)
    tiles = [Tile(word, text, f"{other} {old}"), Tile("change", change_text(watched, value, base), f"against {other}")]
    if size != old_size:
        tiles.append(Tile("parameters", signed_percent(size / old_size), _sizes(old_size, size)))
    return Measured(f"{title} {old} → {text}", (sentence,), tuple(tiles))


def _uncertainty(watched: str, value: float, samples: int) -> str:
    """The end of the sentence: for an accuracy, its standard error."""
    if watched != "accuracy" or not samples:
        return "."
    points = 100 * math.sqrt(value * (1 - value) / samples)
    return f", where an accuracy has a standard error of {points:.1f} points." if points else "."


def _of_text(run: RunRecord, stage: str, measured: Measurements) -> Measured | None:
    """Summarise an evaluation on text: compare the evaluated model with the loaded one that it comes from.

    When that was not evaluated, compare with the first model of `against`; without one, show the model alone.
    """
    planned, models = run.stage(stage), measured.models
    if planned is None or (after := planned.inputs.get("model", "")) not in models:
        return None
    root = run.root(after)
    if root is not None and root.name != after and root.name in models:
        found, gap = _beside(models, root.name, after), told_gap(measured)
        return found if gap is None else _with_gap(found, after, gap)
    other = planned.inputs.get("against[0]", after)
    if other == after:
        return _alone(models, after)
    return replace(_beside(models, other, after), sentences=(f"From {other} to {after}.",))


def _beside(models: Models, before: str, after: str) -> Measured:
    old, new = models[before], models[after]
    sizes = _sizes(old["parameters"], new["parameters"])
    scores = f"{perplexity_text(old['perplexity'], 1)} → {perplexity_text(new['perplexity'], 1)}"
    known = old["perplexity"] is not None and new["perplexity"] is not None
    ratio = perplexity_text(new["perplexity"] / old["perplexity"], 2) if known else "unknown"
    tiles = [Tile("perplexity", f"×{ratio}" if known else ratio, scores)]  # noqa: RUF001
    if new["parameters"] != old["parameters"]:
        tiles.insert(0, Tile("parameters", signed_percent(new["parameters"] / old["parameters"]), sizes))
        if old.get("flops_per_token") and new.get("flops_per_token"):
            ratio = signed_percent(new["flops_per_token"] / old["flops_per_token"])
            per_token = f"{flops_text(old['flops_per_token'])} → {flops_text(new['flops_per_token'])}"
            tiles.append(Tile("compute per token", ratio, per_token))
    return Measured(f"{sizes} parameters, perplexity {scores}", (), tuple(tiles))


def _with_gap(found: Measured, after: str, gap: float) -> Measured:
    sentence = f"{after} {gap_words(gap)} in log-perplexity that pruning opened."
    tile = Tile("gap closed", f"{100 * gap:.0f} %", "in log-perplexity")
    return replace(found, sentences=(sentence,), tiles=(*found.tiles, tile))


def _alone(models: Models, name: str) -> Measured:
    size, perplexity = count_text(models[name]["parameters"]), perplexity_text(models[name]["perplexity"], 1)
    tiles = (Tile("parameters", size), Tile("perplexity", perplexity))
    return Measured(f"{size} parameters, perplexity {perplexity}", (f"{name}, beside no other model.",), tiles)


def _sizes(old: int, new: int) -> str:
    return " → ".join(dict.fromkeys((count_text(old), count_text(new))))
