"""Show a run's progress: a live table in a terminal, plain lines in a pipe or log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from espalier.tracking.follow import News
from espalier.tracking.number_format import bytes_text, count_text, duration_text, number_text, plain_text
from espalier.tracking.stage_status import StageStatus, StageStatuses

_LINE_SECONDS = 10.0
_SYMBOLS = {"waiting": ("·", "dim"), "done": ("✓", "green"), "failed": ("✗", "red"), "stopped": ("■", "yellow")}


class Display(Protocol):
    """Shows the progress of a run. A context manager."""

    def __enter__(self) -> Display: ...

    def __exit__(self, kind: type | None, fault: BaseException | None, trace: TracebackType | None) -> None: ...

    def show(self, news: News) -> None: ...


def open_display(stages: Sequence[str], console: Console, *, clock: Callable[[], float] = time.time) -> Display:
    """A live table when `console` is a terminal, plain lines otherwise; `stages` are the plan's, in order."""
    return (
        LiveDisplay(stages, console, clock=clock) if console.is_terminal else LineDisplay(stages, console, clock=clock)
    )


class LiveDisplay:
    """One table row per stage, redrawn in place."""

    def __init__(self, stages: Sequence[str], console: Console, *, clock: Callable[[], float] = time.time) -> None:
        self._statuses = StageStatuses(stages)
        self._clock = clock
        self._spinner = Spinner("dots", style="cyan")  # one for all draws: a new one would restart its animation
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=8)

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(self, kind: type | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def show(self, news: News) -> None:
        self._statuses.apply(news)

    def _draw(self) -> Group:
        table = Table.grid(padding=(0, 1))
        for status in list(self._statuses.by_stage.values()):
            table.add_row(*self._cells(status))
        return Group(table, *(Text(plain_text(notice), style="yellow") for notice in self._statuses.notices[-2:]))

    def _cells(self, status: StageStatus) -> tuple[RenderableType, ...]:
        symbol = self._spinner if status.state == "running" else Text(*_SYMBOLS[status.state])
        name = Text(
            plain_text(status.name),
            style="bold" if status.state == "running" else "dim" if status.state == "waiting" else "",
        )
        time_text = "" if status.started is None else duration_text(status.elapsed_seconds(self._clock()))
        bar: RenderableType = ""
        if status.last is not None:
            bar = ProgressBar(total=status.last.num_steps, completed=status.last.step, width=24)
        return symbol, name, Text(time_text, justify="right", style="dim"), bar, Text(describe(status))


class LineDisplay:
    """One line for each event, and one about every ten seconds while a stage gets on."""

    def __init__(self, stages: Sequence[str], console: Console, *, clock: Callable[[], float] = time.time) -> None:
        self._statuses = StageStatuses(stages)
        self._console = console
        self._clock = clock
        self._line_time = clock() - _LINE_SECONDS
        self._line = ""

    def __enter__(self) -> LineDisplay:
        return self

    def __exit__(self, kind: type | None, fault: BaseException | None, trace: TracebackType | None) -> None: ...

    def show(self, news: News) -> None:
        self._statuses.apply(news)
        statuses = list(self._statuses.by_stage.values())
        for event in news.events:
            if event.kind != "activity":
                words = " ".join(filter(None, (event.stage, event.kind, event.message)))
                self._write(f"{self._place(event.stage)}{words}")
        running = [status for status in statuses if status.state == "running" and describe(status)]
        if running and self._clock() - self._line_time >= _LINE_SECONDS:
            line = f"{self._place(running[-1].name)}{running[-1].name}  {describe(running[-1])}"
            if line != self._line:
                self._line_time, self._line = self._clock(), line
                self._write(line)

    def _place(self, stage: str) -> str:
        names = list(self._statuses.by_stage)
        return f"[{names.index(stage) + 1}/{len(names)}] " if stage in names else ""

    def _write(self, line: str) -> None:
        self._console.out(plain_text(line), highlight=False)


def describe(status: StageStatus) -> str:
    """A stage's progress, as `120/400  loss 2.313  12.3 k tokens/s  3.1 GiB  3:12 min left`, or its activity."""
    if status.last is None or status.message:
        return plain_text(status.message)
    step = status.last
    parts = [
        f"{step.step}/{step.num_steps}",
        f"loss {number_text(step.loss)}",
        f"{count_text(step.tokens_per_second)} tokens/s",
        bytes_text(step.peak_bytes),
    ]
    remaining = status.remaining_seconds()
    if status.state == "running" and remaining:
        parts.append(f"{duration_text(remaining)} left")
    return "  ".join(parts)
