"""The charts of one stage that trains: loss, learning rate, gradient norm and speed over tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from espalier.report.charts import Axis, Look, Series, line_chart
from espalier.tracking.number_format import count_text, duration_text, number_text
from espalier.tracking.record import StepRecord

_SMALL = (330, 180)


@dataclass(frozen=True)
class StageCharts:
    """One stage's charts: the loss large, the others small under it.

    Attributes:
        legend: names of the loss curves in order of their colours; empty when there is only one.
        others: (title, chart) of the small ones.
        notes: what the charts do not show: steps without a finite loss, the number of attempts.
    """

    stage: str
    caption: str
    loss: Markup
    legend: tuple[str, ...]
    others: tuple[tuple[str, Markup], ...]
    notes: tuple[str, ...]


def stage_charts(steps: Sequence[StepRecord], *, loss: str | None = None) -> StageCharts:
    """Draw the steps of one stage, at least one. `loss` labels the loss axis; by default the names of its terms do."""
    last = steps[-1]
    series = _loss_series(steps)
    marks = tuple((before.tokens, "resumed") for before, after in pairwise(steps) if after.attempt > before.attempt)
    wide = Look(marks=marks)
    small = Look(*_SMALL, marks=tuple((place, "") for place, _ in marks))
    from_zero = Look(*_SMALL, from_zero=True, marks=small.marks)
    others = (
        ("learning rate", _chart(steps, lambda step: step.lr, number_text, from_zero)),
        ("gradient norm", _chart(steps, lambda step: step.gradient_norm, number_text, from_zero)),
        ("tokens/s", _chart(steps, lambda step: step.tokens_per_second, tick_text, from_zero)),
    )
    seconds = sum(step.step_seconds for step in steps)
    taken = f"{count_text(last.tokens)} tokens, {duration_text(seconds)}"
    caption = f"{last.kind}, step {last.step} of {last.num_steps}, {taken}"
    drawn = line_chart(series, Axis("tokens", tick_text), Axis(loss or _loss_name(steps), number_text), look=wide)
    legend = tuple(one.name for one in series) if len(series) > 1 else ()
    return StageCharts(last.stage, caption, drawn, legend, others, _notes(steps))


def tick_text(value: float) -> str:
    """Format a count for a tick, without trailing zeros: `20 k`, `1.5 M`."""
    number, _, unit = count_text(value).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}".rstrip()


def _loss_name(steps: Sequence[StepRecord]) -> str:
    terms = list(steps[-1].terms)
    word = terms[0].replace("_kl", " KL").replace("_", " ") if len(terms) == 1 else "loss"
    return f"{word}, nats per token"


def _loss_series(steps: Sequence[StepRecord]) -> list[Series]:
    terms = list(steps[-1].terms)
    whole = Series("loss", [(step.tokens, step.loss) for step in steps])
    if len(terms) < 2:
        return [whole]
    parts = [Series(term, [(step.tokens, step.terms.get(term, math.nan)) for step in steps]) for term in terms]
    return [whole, *parts]


def _chart(
    steps: Sequence[StepRecord],
    value: Callable[[StepRecord], float],
    text: Callable[[float], str],
    look: Look,
) -> Markup:
    series = Series("", [(step.tokens, value(step)) for step in steps])
    return line_chart([series], Axis("tokens", tick_text), Axis("", text), look=look)


def _notes(steps: Sequence[StepRecord]) -> tuple[str, ...]:
    broken = [step.step for step in steps if not math.isfinite(step.loss)]
    attempts = len({step.attempt for step in steps})  # distinct ones, because attempts are numbered over the whole run
    notes = [f"{len(broken)} steps without a finite loss, the first one {broken[0]}"] if broken else []
    return (*notes, *([f"{attempts} attempts"] if attempts > 1 else []))
