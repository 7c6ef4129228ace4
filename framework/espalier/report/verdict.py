"""What came of a run, in a headline, a few sentences and a few figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from espalier.report.run import MODEL_KINDS, RunRecord
from espalier.tracking.figures import count_text, duration_text, flops_text, number_text


@dataclass(frozen=True)
class Tile:
    """One figure: what it is, its value, and what that is beside."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """The top of the page. `tone` is good, bad or open: how the run stands."""

    tone: str
    status: str
    headline: str
    sentences: tuple[str, ...]
    tiles: tuple[Tile, ...]


def judge(run: RunRecord) -> Verdict:
    """Say what the run has shown so far."""
    tone, status = _status(run)
    pair = _before_and_after(run)
    headline, sentences, tiles = _measured(run, *pair) if pair else _planned(run)
    return Verdict(tone, status, headline, tuple(sentences + _troubles(run)), tuple([*tiles, *_cost_tiles(run)]))


def signed_percent(ratio: float) -> str:
    """`-22 %` for 0.78, `+20.2 %` for 1.202; a minus sign, not a hyphen."""
    percent = 100 * (ratio - 1)
    text = f"{abs(percent):.3g} %"
    return text if percent == 0 else f"{'+' if percent > 0 else '−'}{text}"  # noqa: RUF001


def _status(run: RunRecord) -> tuple[str, str]:
    states = list(run.states.values())
    if "gate failed" in states:
        return "bad", "stopped at a gate"
    if "failed" in states:
        return "bad", "failed"
    if states and all(state == "done" for state in states):
        return "good", "done"
    return "open", "under way" if "running" in states or "done" in states else "not started"


def _before_and_after(run: RunRecord) -> tuple[str, str] | None:
    """The names of the loaded model and of the one that was measured against it."""
    evaluation = run.evaluation()
    planned = run.stage(evaluation.stage) if evaluation else None
    if evaluation is None or planned is None:
        return None
    after = planned.inputs.get("model", "")
    root = run.root(after)
    models = evaluation.metrics["models"]
    if root is None or root.name == after or not {root.name, after} <= models.keys():
        return None
    return root.name, after


def _measured(run: RunRecord, before: str, after: str) -> tuple[str, list[str], list[Tile]]:
    evaluation = run.evaluation()
    assert evaluation is not None
    old, new = (evaluation.metrics["models"][name] for name in (before, after))
    sizes = f"{count_text(old['parameters'])} → {count_text(new['parameters'])}"
    scores = f"{old['perplexity']:.1f} → {new['perplexity']:.1f}"
    tiles = [
        Tile("parameters", signed_percent(new["parameters"] / old["parameters"]), sizes),
        Tile("perplexity", f"×{new['perplexity'] / old['perplexity']:.2f}", scores),  # noqa: RUF001
    ]
    if old.get("flops_per_token") and new.get("flops_per_token"):
        per_token = f"{flops_text(old['flops_per_token'])} → {flops_text(new['flops_per_token'])}"
        tiles.append(
            Tile(
                "compute per token",
                signed_percent(new["flops_per_token"] / old["flops_per_token"]),
                per_token,
            )
        )
    sentences = []
    gap = evaluation.metrics.get("gap_closed")
    if _is_number(gap):
        sentences.append(f"{after} closed {100 * gap:.0f} % of the gap in log-perplexity that pruning opened.")
        tiles.append(Tile("gap closed", f"{100 * gap:.0f} %", "in log-perplexity"))
    return f"{sizes} parameters, perplexity {scores}", sentences, tiles


def _planned(run: RunRecord) -> tuple[str, list[str], list[Tile]]:
    models = [stage for stage in run.stages if stage.kind in MODEL_KINDS and "parameters" in stage.shape]
    if not models:
        return "Nothing to show yet", [], []
    first, last = models[0].shape["parameters"], models[-1].shape["parameters"]
    headline = f"{count_text(first)} → {count_text(last)} parameters"
    return headline, ["Nothing is measured yet; shapes are the plan's."], []


def _troubles(run: RunRecord) -> list[str]:
    found = []
    for name, state in run.states.items():
        message = run.messages[name]
        if state in ("failed", "gate failed"):
            found.append(f"{name}: {state}" + (f", {message}" if message else "") + ".")
        elif state == "running" and run.steps[name]:
            last = run.steps[name][-1]
            found.append(f"{name} is at step {last.step} of {last.num_steps}, loss {number_text(last.loss)}.")
        elif state == "running":
            found.append(f"{name} is running" + (f": {message}" if message else "") + ".")
    return found


def _cost_tiles(run: RunRecord) -> list[Tile]:
    costs = [result.cost for result in run.results.values()]
    seconds, flops = sum(cost.seconds for cost in costs), sum(cost.flops for cost in costs)
    return [Tile("time", duration_text(seconds), flops_text(flops))] if seconds else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
