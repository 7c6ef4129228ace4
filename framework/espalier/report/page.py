"""Write a run's report: a single HTML file without scripts or external resources."""

from __future__ import annotations

from pathlib import Path

import jinja2
import yaml
from markupsafe import Markup

from espalier.report.compare import compare_growth
from espalier.report.evaluated import evaluated
from espalier.report.lineage import lineage_drawing
from espalier.report.run import RunRecord, damage_refused, read_run
from espalier.report.stage_charts import stage_charts
from espalier.report.tables import cost_grid, settings_rows
from espalier.report.time import time_use
from espalier.report.validation import validation_charts
from espalier.report.verdict import judge
from espalier.report.weights import sample_weights
from espalier.storage.local import LocalStorage

_TEMPLATES = Path(__file__).parent


def write_report(run_folder: Path) -> Path:
    """Write `report.html` into a run's folder, whether the run is finished or not.

    Returns:
        Path of the file. It holds its own style and drawings, no script, and refers to nothing outside itself.

    Raises:
        RefusedInput: a file of the run cannot be read.
    """
    with damage_refused(run_folder):
        page = render(read_run(run_folder))
    LocalStorage(run_folder).replace("report.html", page.encode())  # atomic: a reload shows the old or the new page
    return run_folder / "report.html"


def render(run: RunRecord) -> str:
    """Render the page as HTML. All text of the run is escaped, because generated text may contain markup."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    shown = run.evaluation()
    return environment.get_template("page.html").render(
        name=run.job.get("name", "run"),
        style=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
        verdict=judge(run),
        lineage=lineage_drawing(run),
        evaluated=evaluated(run),
        measured_on="validation samples" if shown and shown.measured and shown.measured.watched else "held-out text",
        charts=[
            stage_charts(steps, loss="loss per sample" if run.shown(stage).watched else None)
            for stage, steps in run.steps.items()
            if steps
        ],
        comparison=compare_growth(run),
        validation={stage: validation_charts(run, stage) for stage in run.steps},
        weights=[found for stage in run.steps if (found := sample_weights(run, stage)) is not None],
        costs=cost_grid(run),
        time=time_use(run.goodput),
        job=yaml.safe_dump(run.job, sort_keys=False, allow_unicode=True),
        settings=settings_rows(run.run),
    )
