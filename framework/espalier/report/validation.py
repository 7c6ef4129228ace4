"""Charts of the validation metrics over epochs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from markupsafe import Markup

from espalier.report.charts import Axis, Look, Series, line_chart
from espalier.report.metrics import METRIC_WORDS, metric_names, metric_text
from espalier.report.run import RunRecord
from espalier.tracking.epochs import EpochRecord

EPOCHS_AXIS = Axis("epochs", "{:.0f}".format, whole=True, start=1.0)
SMALL = Look(330, 180)


def validation_charts(run: RunRecord, stage: str) -> tuple[tuple[str, Markup], ...]:
    """(title, chart) of each metric, the watched one first, with a vertical line at the best epoch."""
    records = [record for record in run.epochs[stage] if record.metrics]
    watched = run.shown(stage).watched
    if not records or watched is None:
        return ()
    result = run.results.get(stage)
    best = (result.metrics.get("best") or {}).get("epoch") if result else None
    look = Look(SMALL.width, SMALL.height, marks=((best, "best"),) if best else ())
    names = metric_names(records[-1].metrics, watched)
    return tuple((METRIC_WORDS[name], _chart(records, name, look)) for name in names)


def _chart(records: Sequence[EpochRecord], name: str, look: Look) -> Markup:
    points = [(record.epoch, record.metrics[name]) for record in records if name in record.metrics]
    y = Axis("", partial(metric_text, name))
    return line_chart([Series(METRIC_WORDS[name], points)], EPOCHS_AXIS, y, look=look)
