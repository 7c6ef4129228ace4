"""Shows a run's record in Weights & Biases. The only place that knows W&B.

Only the process that started the run has the key and calls this; workers never do. What is sent follows from
the record alone: a mirror that starts anew sends what W&B lacks, so every step is there once after any stop.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.jobs.job import Job
from espalier.stages.run_folder import RunFolder
from espalier.tracking import notable, payload
from espalier.tracking.epochs import EPOCHS, EpochRecord, read_epochs
from espalier.tracking.events import EventLog
from espalier.tracking.figures import plain_text
from espalier.tracking.follow import News
from espalier.tracking.reach import is_reachable
from espalier.tracking.record import STEPS, StepRecord, read_steps

if TYPE_CHECKING:
    import wandb

_CONNECT_SECONDS = 60.0  # of init and of finish: the longest that W&B may keep the caller's thread


class Mirror:
    """One run in W&B, however often the espalier run is stopped and goes on.

    No method raises. After the first failure nothing more is sent and one event says so.
    Calls may wait for the network: make them from a thread that nothing waits for.
    """

    def __init__(self, run_folder: Path, job: Job, events: EventLog, *, key: str | None = None) -> None:
        self._key = key
        self._missed = ""
        self._run_folder = run_folder
        self._job = job
        self._events = events
        self._run: wandb.Run | None = None
        self._class_names = payload.class_names(job.data.model_dump())
        self._sent_step = 0
        self._sent_epochs: dict[str, int] = {}
        self._waiting: dict[tuple[str, int], EpochRecord] = {}
        self._stages: dict[str, None] = {}

    @staticmethod
    def open(run_folder: Path, job: Job, events: EventLog, *, key: str | None = None) -> Mirror:
        """Start or resume the W&B run named in the run's `run.json` (`wandb_id`).

        Args:
            key: of W&B; left out, it is looked for where W&B keeps it.
        """
        mirror = Mirror(run_folder, job, events, key=key)
        if job.tracking.wandb.mode != "off":
            mirror._guarded(lambda: mirror._start(job))
        return mirror

    def advice(self) -> str:
        """How to send a run that was to be online and is not, in one line; empty where there is nothing to do."""
        folders = sorted((self._run_folder / "wandb").glob("offline-run-*"))
        if not self._missed or not folders:
            return ""
        return f"{self._missed}; the whole run is kept: `wandb sync {shlex.quote(str(folders[-1]))}` sends it to W&B"

    def receive(self, news: News) -> None:
        """Send the steps and epochs that W&B does not have yet, and the results of stages that finished."""
        self._guarded(lambda: self._send(news))

    def close(self) -> None:
        """Send the tables of stages and models, and end this process's part of the run."""
        self._guarded(self._finish)
        self._run = None

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as fault:  # whatever it is: W&B never stops a run
            self._run = None
            self._report(f"no longer mirrored to W&B: {type(fault).__name__}: {fault}")

    def _report(self, message: str) -> None:
        self._events.add("mirror", "", plain_text(message)[:500])

    def _start(self, job: Job) -> None:
        wandb_id = RunFolder(self._run_folder).ids()["wandb_id"]
        asked, url = _environment()
        if asked == "disabled":
            return
        online = self._wants_online(job, asked)
        if online and not is_reachable(url):
            self._missed, online = "W&B cannot be reached", False
            self._report(f"{self._missed} at {url}, mirrored offline")
        try:
            self._run = _init(self._run_folder, job, wandb_id=wandb_id, online=online, key=self._key)
        except Exception as fault:
            if not online:
                raise
            self._missed = "W&B did not take this run"
            self._report(f"{self._missed}, mirrored offline: {type(fault).__name__}: {fault}")
            _forget_run()
            self._run = _init(self._run_folder, job, wandb_id=wandb_id, online=False)
        self._sent_step = int(self._run.summary.get(payload.AXIS, 0)) if self._run.resumed else 0
        self._sent_epochs, self._waiting = {}, {}
        self._run.define_metric(payload.AXIS)
        self._run.define_metric("*", step_metric=payload.AXIS)

    def _wants_online(self, job: Job, asked: str) -> bool:
        mode = job.tracking.wandb.mode
        if mode == "offline" or (mode == "auto" and asked in ("offline", "dryrun")):
            return False
        found = self._key is not None or has_key()
        if mode == "online" and not found:
            self._missed = "no W&B key was found (`wandb login` stores one)"
            self._report("no W&B key found, mirrored offline; `wandb login` stores one, `wandb sync` sends the run")
        return found

    def _send(self, news: News) -> None:
        if self._run is None:
            return
        if (news.num_forgotten_steps or news.num_forgotten_epochs) and self._run.offline:
            self._send_all_again(self._run)
        else:
            again = [step.global_step for step in news.steps if step.global_step <= self._sent_step]
            if news.num_forgotten_steps and again:
                which = f"steps {again[0]} to {again[-1]} were taken again: W&B keeps the values that it was first sent"
                self._report(f"{which}; the report and records/{STEPS.name} hold those that count")
            self._send_rows(news.steps, news.epochs)
        finished = [event.stage for event in news.events if event.kind == "finished" and event.stage]
        self._stages |= dict.fromkeys(finished)
        self._send_results(finished)

    def _send_results(self, stages: Iterable[str]) -> None:
        for result in RunFolder(self._run_folder).results(stages).values():
            self._run.summary.update(payload.result_values(result))

    def _send_all_again(self, run: wandb.Run) -> None:
        """After steps were taken back: an offline run is a file, and is written anew with what survived."""
        run.finish()
        self._start(self._job)
        self._send_rows(read_steps(self._run_folder / STEPS), read_epochs(self._run_folder / EPOCHS))
        self._send_results(self._stages)

    def _send_rows(self, steps: Sequence[StepRecord], epochs: Sequence[EpochRecord]) -> None:
        """In the order in which they happened: an epoch waits for the step that it ended with."""
        self._waiting |= {(epoch.stage, epoch.epoch): epoch for epoch in epochs}
        reached = max([self._sent_step, *(step.global_step for step in steps)])
        due = [epoch for epoch in self._waiting.values() if epoch.global_step <= reached]
        for record in sorted([*steps, *due], key=lambda record: record.global_step):
            if isinstance(record, EpochRecord):
                self._send_epoch(record)
            elif record.global_step > self._sent_step:  # online, a step taken again keeps the value that was sent
                self._run.log(payload.step_values(record))
                self._sent_step = record.global_step

    def _send_epoch(self, record: EpochRecord) -> None:
        del self._waiting[record.stage, record.epoch]
        if record.epoch <= self._last_epoch(record.stage):
            return
        values = payload.epoch_values(record)
        if record.samples and (self._run_folder / record.samples).exists():
            values |= self._sample_values(record)
            artifact = _samples_artifact(self._run.id, self._run_folder, record)
            self._run.log_artifact(artifact, aliases=["latest", f"epoch-{record.epoch}"])
        self._run.log(values)  # last: it says that W&B has the epoch
        self._sent_epochs[record.stage] = record.epoch

    def _last_epoch(self, stage: str) -> int:
        """Of a stage, the last one that W&B has."""
        if stage not in self._sent_epochs:
            known = self._run.summary.get(f"stage/{stage}/epoch", 0) if self._run.resumed else 0
            self._sent_epochs[stage] = int(known)
        return self._sent_epochs[stage]

    def _sample_values(self, record: EpochRecord) -> dict[str, Any]:
        """The weights' histogram and the samples that count most."""
        import wandb

        weights = notable.sample_column(self._run_folder / record.samples, "weight")
        table = payload.heaviest_table(self._run_folder, record, weights, self._class_names)
        histogram = wandb.Histogram(np_histogram=payload.weight_histogram(weights))
        return {f"stage/{record.stage}/weights": histogram, f"stage/{record.stage}/heaviest": _table(table)}

    def _finish(self) -> None:
        if self._run is None:
            return
        for record in list(self._waiting.values()):  # of steps that were left out, so that nothing told of them
            self._send_epoch(record)
        results = RunFolder(self._run_folder).results(self._stages)
        if results:
            self._run.log({"stages": _table(payload.stage_table(results.values()))})
        for name, result in results.items():
            if result.metrics.get("models"):
                self._run.log({f"stage/{name}/models": _table(payload.model_table(result))})
        self._run.finish()


def has_key() -> bool:
    """Whether W&B finds a key (environment, settings file, netrc); asks nobody, tries no network."""
    import wandb

    wandb.setup(settings=wandb.Settings(silent=True))
    return wandb.login(prompt=False, verify=False)


def _environment() -> tuple[str, str]:
    """The mode that this process's WANDB_MODE asks for, and where the server is."""
    import wandb

    settings = wandb.setup(settings=wandb.Settings(silent=True)).settings
    return settings.mode, settings.base_url


def _forget_run() -> None:
    """End W&B's service: it does not take a second run under the id of one that it could not begin."""
    import wandb

    wandb.teardown()


def _init(run_folder: Path, job: Job, *, wandb_id: str, online: bool, key: str | None = None) -> wandb.Run:
    import wandb

    # An offline folder of an earlier start holds less than the one to come, which begins with the first step.
    for old in (run_folder / "wandb").glob(f"offline-run-*-{wandb_id}"):
        shutil.rmtree(old, ignore_errors=True)
    return wandb.init(
        project=job.tracking.wandb.project,
        entity=job.tracking.wandb.entity,
        id=wandb_id,
        name=job.name,
        resume="allow",
        config=job.model_dump(mode="json"),
        settings=_settings(run_folder, online=online, key=key if online else None),
    )


def _settings(run_folder: Path, *, online: bool, key: str | None) -> wandb.Settings:
    """Nothing but what we log leaves: no console output, code, git state, command line or machine."""
    import wandb

    return wandb.Settings(
        mode="online" if online else "offline",
        api_key=key,
        root_dir=str(run_folder),
        reinit="create_new",
        silent=True,
        quiet=True,
        console="off",
        save_code=False,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        host="unnamed",  # left out, it is the name of this machine
        init_timeout=_CONNECT_SECONDS,
        finish_timeout=_CONNECT_SECONDS,
    )


def _table(values: payload.Table) -> wandb.Table:
    import wandb

    columns, rows = values
    return wandb.Table(columns=list(columns), data=[list(row) for row in rows])


def _samples_artifact(run_id: str, run_folder: Path, record: EpochRecord) -> wandb.Artifact:
    """The record of every sample: one version an epoch. The file is sent from where it lies; it never changes."""
    import wandb

    figures = {"epoch": record.epoch, "step": record.step, **record.correction}
    artifact = wandb.Artifact(f"{run_id}-{record.stage}-samples", type="samples", metadata=figures)
    artifact.add_file(str(run_folder / record.samples), name="samples.parquet", policy="immutable")
    return artifact
