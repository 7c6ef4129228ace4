"""Show a run that has ended: write its report and print tables of results and times.

A part that cannot be shown is reported in one line and never changes the exit code.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from rich.console import Console

from espalier.jobs.stage import StageSettings
from espalier.report.compare import compare_growth
from espalier.report.page import write_report
from espalier.report.run import read_run
from espalier.stages.controller import ExitCode, Stop
from espalier.stages.run_folder import RunFolder
from espalier.tracking.epochs import list_path
from espalier.tracking.goodput import measure_goodput
from espalier.tracking.time_log import TIME, read_time_log
from espalier_cluster.show import show_grid, show_outcome, show_time
from espalier_cluster.show_samples import show_suspects
from espalier_cluster.terminal import say


def show_end(console: Console, folder: RunFolder, stages: Sequence[StageSettings]) -> None:
    """Write the report and print the results; a failure of one part does not affect the others."""
    with failure_reported(console, "the report could not be written"):
        write_report(folder.path)
    with failure_reported(console, "the results cannot be shown"):
        show_outcome(console, list(folder.results([stage.name for stage in stages]).values()))
    for stage in stages:
        if (folder.path / list_path(stage.name, "suspects")).exists():
            with failure_reported(console, f"the suspects of stage {stage.name} cannot be shown"):
                show_suspects(console, folder.path, stage.name)
    with failure_reported(console, "the trainings cannot be compared"):
        if comparison := compare_growth(read_run(folder.path)):
            show_grid(console, comparison.grid, comparison.sentence)
    with failure_reported(console, "the run's time cannot be shown"):
        show_time(console, measure_goodput(read_time_log(folder.path / TIME), now=time.time()))


def say_end(console: Console, stop: Stop, folder: RunFolder) -> None:
    """Print in a sentence how the run ended, unless the terminal is closed."""
    with contextlib.suppress(OSError):
        if stop.code is ExitCode.DONE:
            page = folder.path / "report.html"
            say(console, f"done; the report is {page}" if page.exists() else f"done; the run is in {folder.path}")
        elif stop.code is ExitCode.RESUMABLE:
            say(console, f"stopped ({stop.reason}); the same command goes on from the last checkpoint")
        else:
            say(console, stop.reason, style="red")
            if (folder.path / "failure.txt").exists():
                say(console, f"more in {folder.path / 'failure.txt'}")


@contextlib.contextmanager
def failure_reported(console: Console, otherwise: str) -> Iterator[None]:
    """Turn an exception inside the block into one printed line: `otherwise` and the reason."""
    try:
        yield
    except Exception as error:  # any kind: a damaged file may cause anything
        with contextlib.suppress(OSError):
            say(console, f"{otherwise}: {type(error).__name__}: {error}")
