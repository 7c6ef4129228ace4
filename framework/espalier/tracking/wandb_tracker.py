"""The tracker that shows a run in Weights & Biases.

A row of W&B's history is a step of the run: W&B's own counter is set to it, and epochs join the row of their last
step. So the server's last row says what it has, and an offline run has the same rows at the same places.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from espalier.config.formats import shown_data
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier.tracking import payload, sample_reader, wandb_session
from espalier.tracking.epochs import EPOCHS, EpochRecord, read_epochs
from espalier.tracking.events import EVENTS, Event
from espalier.tracking.jsonl import read_known
from espalier.tracking.links import write_link
from espalier.tracking.reach import is_reachable
from espalier.tracking.record import StepRecord
from espalier.tracking.tracker import Position, Report, TrackedRun
from espalier.tracking.wandb_settings import WANDB, WandbConfig

if TYPE_CHECKING:
    import wandb

_ASKED = "asked to stop in W&B"
_STALE_SECONDS = 30.0  # the library asks every 15 s whether somebody has pressed the button
_TITLE_LETTERS = 63


class WandbTracker:
    """One run in W&B, online or as an offline folder that `wandb sync` sends. See `Tracker`."""

    def __init__(self, run: TrackedRun, settings: WandbConfig, report: Report) -> None:
        self._tracked = run
        self._settings = settings
        self._report = report
        self._key = next((run.secrets[name] for name in WANDB.secrets if name in run.secrets), None)
        self._missed = ""
        self._run: wandb.Run | None = None
        self._started = time.monotonic()
        self._marks = payload.PlanMarks(run.folder)

    def start(self) -> Position | None:
        """Start online if wanted and possible, else offline; None when the settings or WANDB_MODE switch W&B off."""
        if self._settings.mode == "off":
            return None
        asked, url = wandb_session.mode_and_url()
        if asked == "disabled":
            return None
        online = self._wants_online(asked)
        if online and not is_reachable(url):
            self._missed, online = "W&B cannot be reached", False
            self._report(f"{self._missed} at {url}, mirrored offline")
        try:
            self._run = self._begin(online=online)
        except Exception as fault:
            if not online:
                raise
            self._missed = "W&B did not take this run"
            self._report(f"{self._missed}, mirrored offline: {type(fault).__name__}: {fault}")
            wandb_session.forget_run()
            self._run = self._begin(online=False)
        if not self._run.offline and self._run.url:
            write_link(RunFolder(self._tracked.folder), self._tracked.id, WANDB.name, self._run.url)
        self._run.define_metric(payload.AXIS)
        self._run.define_metric("*", step_metric=payload.AXIS)
        return Position(self._last_step, self._last_epoch)

    def restart(self) -> Position | None:
        """Write an offline run again from the start; None online, because a server keeps what it was sent first."""
        if not self._live.offline:
            return None
        wandb_session.end(self._live)
        return self.start()

    def log_step(self, record: StepRecord) -> None:
        self._live.log(payload.step_values(record) | self._marks.of(record.stage), step=record.global_step)

    def log_epoch(self, record: EpochRecord) -> None:
        folder = self._tracked.folder
        # After a stop between the last step of an epoch and its end, the row of that step is closed: the next one.
        row = max(record.global_step, self._live.starting_step)
        self._live.log(payload.epoch_values(record) | {_epoch_row(record.stage): row}, step=row)
        if record.samples and (folder / record.samples).exists():
            values, aliases = self._sample_values(record), ["latest", f"epoch-{record.epoch}"]
            with self._without(f"the samples of epoch {record.epoch}"):
                self._live.log(values, step=row)
                self._live.log_artifact(self._samples_artifact(record), aliases=aliases)

    def log_result(self, result: StageResult) -> None:
        self._live.summary.update(payload.result_values(result))

    def alert(self, event: Event) -> None:
        what = "missed its gate" if event.kind == "gate" else event.kind
        self._live.alert(
            title=f"{self._tracked.name}: {event.stage} {what}"[:_TITLE_LETTERS],
            text=event.message or what,
            level="WARN" if event.kind == "gate" else "ERROR",
            wait_duration=0,
        )

    def finish(self, results: Sequence[StageResult]) -> None:
        """Put the tables of stages and models into the summary, and finish the run."""
        tables = {"stages": payload.stage_table(results)} if results else {}
        tables |= {f"stage/{one.stage}/models": payload.model_table(one) for one in results if one.measured is not None}
        for name, table in tables.items():
            with self._without(f"the table {name}"):
                self._live.summary.update({name: _table(table)})
        if not wandb_session.end(self._live):
            self._missed = "W&B has not taken all of this run"
            self._report(self._missed)

    def advice(self) -> str:
        """How to send what W&B does not have. `wandb sync` would append the whole run to what the server has of it."""
        if not self._missed:
            return ""
        command = f"espalier sync {shlex.quote(str(self._tracked.folder))}"
        return f"{self._missed}; nothing is lost: `{command}` sends what it lacks"

    @contextmanager
    def _without(self, what: str) -> Iterator[None]:
        """Go on without a table or artifact that the server does not take: the library asks it before it sends one."""
        try:
            yield
        except Exception as fault:  # of the library's own, for whatever the server answers
            self._report(f"W&B has not taken {what}: {type(fault).__name__}: {fault}")

    def _begin(self, *, online: bool) -> wandb.Run:
        self._started = time.monotonic()
        key, folder = self._key, self._tracked.folder
        obeyed = any(event.message.startswith(_ASKED) for event in read_known(folder / EVENTS, Event))
        return wandb_session.begin(
            self._tracked, self._settings, online=online, key=key, on_stop=lambda: self._obey(before=obeyed)
        )

    def _obey(self, *, before: bool) -> None:
        """Pass on that somebody has pressed "Stop run".

        Args:
            before: whether an earlier start was stopped so. W&B does not take the wish back when a run is resumed, and
                would stop each start at once, for good.
        """
        if before and time.monotonic() - self._started < _STALE_SECONDS:
            self._report("W&B still tells of the earlier wish to stop, which is done; now stop it by `espalier stop`")
        else:
            self._report(f"{_ASKED}: the run saves and stops")
            self._tracked.stop()

    @property
    def _live(self) -> wandb.Run:
        assert self._run is not None, "start comes first"
        return self._run

    def _wants_online(self, asked: str) -> bool:
        if wandb_session.is_offline(self._settings, asked):
            return False
        found = self._key is not None or wandb_session.has_key()
        if self._settings.mode == "online" and not found:
            self._missed = "no W&B key was found (`wandb login` stores one)"
            self._report("no W&B key found, mirrored offline; `wandb login` stores one")
        return found

    @property
    def _last_step(self) -> int:
        """The last step that the server has. Its summary may be ahead of that when a run was killed."""
        return max(0, self._live.starting_step - 1)

    def _last_epoch(self, stage: str) -> int:
        """The last epoch that the server has: one with a row, and in the summary."""
        rows = (one for one in read_epochs(self._tracked.folder / EPOCHS) if one.global_step <= self._last_step)
        last, summary = max((one.epoch for one in rows if one.stage == stage), default=0), self._live.summary
        told = int(summary.get(f"stage/{stage}/epoch", 0))
        if told <= last and int(summary.get(_epoch_row(stage), 0)) > self._last_step:
            return told - 1  # it was to stand in a row after its last step, which the server has not
        return min(last, told)

    def _data_of(self, stage: str) -> Mapping[str, Any]:
        """The data section that a stage works on."""
        planned, job = RunFolder(self._tracked.folder).planned(stage), self._tracked.job
        return job["data_sets"][planned.data] if planned is not None and planned.data else job["data"]

    def _sample_values(self, record: EpochRecord) -> payload.Row:
        """The histogram of the sample weights and the table of the largest ones."""
        import wandb

        folder, names = self._tracked.folder, shown_data(self._data_of(record.stage)).classes
        weights = sample_reader.weight_column(folder / str(record.samples))
        table = payload.heaviest_table(folder, record, weights, names)
        histogram = wandb.Histogram(np_histogram=payload.weight_histogram(weights))
        group = payload.weights_group(record.stage)
        return {f"{group}/histogram": histogram, f"{group}/heaviest": _table(table)}

    def _samples_artifact(self, record: EpochRecord) -> wandb.Artifact:
        """The epoch's table of samples as an artifact version. The file is not copied, because it never changes."""
        import wandb

        metadata = {"epoch": record.epoch, "step": record.step, **record.correction}
        name = f"{self._live.id}-{record.stage}-samples"
        artifact = wandb.Artifact(name, type="samples", metadata=metadata)
        path = self._tracked.folder / str(record.samples)
        artifact.add_file(str(path), name="samples.parquet", policy="immutable")
        return artifact


def _epoch_row(stage: str) -> str:
    """The key of the step whose row has the end of the newest epoch."""
    return f"stage/{stage}/epoch_row"


def _table(values: payload.Table) -> wandb.Table:
    import wandb

    columns, rows = values
    return wandb.Table(columns=list(columns), data=[list(row) for row in rows])
