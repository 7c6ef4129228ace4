"""The top of the report: the run's status, a headline, sentences and tiles with numbers."""

from __future__ import annotations

from dataclasses import dataclass

from espalier.report.measured import Measured, Tile, measured
from espalier.report.run import RunRecord
from espalier.tracking.number_format import count_text, duration_text, flops_text, number_text


@dataclass(frozen=True)
class Verdict:
    """The top of the report; `tone` is good, bad or open and sets the colour of the status."""

    tone: str
    status: str
    headline: str
    sentences: tuple[str, ...]
    tiles: tuple[Tile, ...]


def judge(run: RunRecord) -> Verdict:
    """Summarise the run so far."""
    tone, status = _status(run)
    found = measured(run) or _planned(run)
    sentences, tiles = (*found.sentences, *_troubles(run)), (*found.tiles, *_cost_tiles(run))
    return Verdict(tone, status, found.headline, sentences, tiles)


def _status(run: RunRecord) -> tuple[str, str]:
    states = list(run.states.values())
    if "gate failed" in states:
        return "bad", "stopped at a gate"
    if "failed" in states:
        return "bad", "failed"
    if states and all(state == "done" for state in states):
        return "good", "done"
    if "stopped" in states:
        return "open", "stopped, to be gone on with"
    return "open", "under way" if "running" in states or "done" in states else "not started"


def _planned(run: RunRecord) -> Measured:
    models = [stage for stage in run.stages if stage.has_model and "parameters" in stage.shape]
    if not models:
        return Measured("Nothing to show yet", (), ())
    sizes = dict.fromkeys(count_text(stage.shape["parameters"]) for stage in (models[0], models[-1]))
    headline = f"{' → '.join(sizes)} parameters"
    return Measured(headline, ("Nothing is measured yet; shapes are the plan's.",), ())


def _troubles(run: RunRecord) -> list[str]:
    found = []
    for name, state in run.states.items():
        message = run.messages[name]
        if state in ("failed", "gate failed"):
            found.append(f"{name}: {state}" + (f", {message}" if message else "") + ".")
        elif state == "stopped":
            found.append(f"{name}: {message or 'stopped'}.")
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
