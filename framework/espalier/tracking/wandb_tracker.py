"""The tracker that shows a run in Weights & Biases. The only file that imports wandb, and only when a run is shown."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from espalier.config.formats import shown_data
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier.tracking import payload, sample_reader
from espalier.tracking.epochs import EpochRecord
from espalier.tracking.links import write_link
from espalier.tracking.reach import is_reachable
from espalier.tracking.record import StepRecord
from espalier.tracking.tracker import Position, Report, TrackedRun
from espalier.tracking.wandb_settings import WANDB, WandbConfig

if TYPE_CHECKING:
    import wandb

_CONNECT_SECONDS = 60.0  # of init and of finish: the longest that W&B may keep the caller's thread


class WandbTracker:
    """One run in W&B, online or as an offline folder that `wandb sync` sends. See `Tracker`."""

    def __init__(self, run: TrackedRun, settings: WandbConfig, report: Report) -> None:
        self._tracked = run
        self._settings = settings
        self._report = report
        self._key = next((run.secrets[name] for name in WANDB.secrets if name in run.secrets), None)
        self._missed = ""
        self._run: wandb.Run | None = None

    def start(self) -> Position | None:
        """Start online if wanted and possible, else offline; None when the settings or WANDB_MODE switch W&B off."""
        if self._settings.mode == "off":
            return None
        asked, url = _environment()
        if asked == "disabled":
            return None
        online = self._wants_online(asked)
        if online and not is_reachable(url):
            self._missed, online = "W&B cannot be reached", False
            self._report(f"{self._missed} at {url}, mirrored offline")
        try:
            self._run = _init(self._tracked, self._settings, online=online, key=self._key)
        except Exception as fault:
            if not online:
                raise
            self._missed = "W&B did not take this run"
            self._report(f"{self._missed}, mirrored offline: {type(fault).__name__}: {fault}")
            _forget_run()
            self._run = _init(self._tracked, self._settings, online=False)
        if not self._run.offline and self._run.url:
            write_link(RunFolder(self._tracked.folder), self._tracked.id, WANDB.name, self._run.url)
        self._run.define_metric(payload.AXIS)
        self._run.define_metric("*", step_metric=payload.AXIS)
        if not self._run.resumed:
            return Position()
        return Position(int(self._run.summary.get(payload.AXIS, 0)), self._last_epoch)

    def restart(self) -> Position | None:
        """Write an offline run again from the start; None online, because a server keeps what it was sent first."""
        if not self._live.offline:
            return None
        self._live.finish()
        return self.start()

    def log_step(self, record: StepRecord) -> None:
        self._live.log(payload.step_values(record))

    def log_epoch(self, record: EpochRecord) -> None:
        values = payload.epoch_values(record)
        folder = self._tracked.folder
        if record.samples and (folder / record.samples).exists():
            values |= self._sample_values(record)
            artifact = self._samples_artifact(record)
            self._live.log_artifact(artifact, aliases=["latest", f"epoch-{record.epoch}"])
        self._live.log(values)  # last, because it marks the epoch as logged

    def log_result(self, result: StageResult) -> None:
        self._live.summary.update(payload.result_values(result))

    def finish(self, results: Sequence[StageResult]) -> None:
        """Log the tables of stages and models, and finish the run."""
        if results:
            self._live.log({"stages": _table(payload.stage_table(results))})
        for result in results:
            if result.measured is not None:
                self._live.log({f"stage/{result.stage}/models": _table(payload.model_table(result))})
        self._live.finish()

    def advice(self) -> str:
        """How to send a run that should have been online but was kept offline."""
        folders = sorted((self._tracked.folder / "wandb").glob("offline-run-*"))
        if not self._missed or not folders:
            return ""
        return f"{self._missed}; the whole run is kept: `wandb sync {shlex.quote(str(folders[-1]))}` sends it to W&B"

    @property
    def _live(self) -> wandb.Run:
        assert self._run is not None, "start comes first"
        return self._run

    def _wants_online(self, asked: str) -> bool:
        mode = self._settings.mode
        if mode == "offline" or (mode == "auto" and asked in ("offline", "dryrun")):
            return False
        found = self._key is not None or has_key()
        if mode == "online" and not found:
            self._missed = "no W&B key was found (`wandb login` stores one)"
            self._report("no W&B key found, mirrored offline; `wandb login` stores one, `wandb sync` sends the run")
        return found

    def _last_epoch(self, stage: str) -> int:
        return int(self._live.summary.get(f"stage/{stage}/epoch", 0))

    def _data_of(self, stage: str) -> Mapping[str, Any]:
        """The data section that a stage works on."""
        planned, job = RunFolder(self._tracked.folder).planned(stage), self._tracked.job
        return job["data_sets"][planned.data] if planned is not None and planned.data else job["data"]

    def _sample_values(self, record: EpochRecord) -> dict[str, Any]:
        """The histogram of the sample weights and the table of the largest ones."""
        import wandb

        folder, names = self._tracked.folder, shown_data(self._data_of(record.stage)).classes
        weights = sample_reader.weight_column(folder / str(record.samples))
        table = payload.heaviest_table(folder, record, weights, names)
        histogram = wandb.Histogram(np_histogram=payload.weight_histogram(weights))
        return {f"stage/{record.stage}/weights": histogram, f"stage/{record.stage}/heaviest": _table(table)}

    def _samples_artifact(self, record: EpochRecord) -> wandb.Artifact:
        """The epoch's table of samples as an artifact version. The file is not copied, because it never changes."""
        import wandb

        metadata = {"epoch": record.epoch, "step": record.step, **record.correction}
        name = f"{self._live.id}-{record.stage}-samples"
        artifact = wandb.Artifact(name, type="samples", metadata=metadata)
        path = self._tracked.folder / str(record.samples)
        artifact.add_file(str(path), name="samples.parquet", policy="immutable")
        return artifact


def has_key() -> bool:
    """Whether W&B finds an API key (environment, settings file, netrc), without a prompt or the network."""
    import wandb

    wandb.setup(settings=wandb.Settings(silent=True))
    return wandb.login(prompt=False, verify=False)


def _environment() -> tuple[str, str]:
    """The mode that WANDB_MODE sets, and the URL of the server."""
    import wandb

    settings = wandb.setup(settings=wandb.Settings(silent=True)).settings
    return settings.mode, settings.base_url


def _forget_run() -> None:
    """Shut down W&B's service process: after a failed start it refuses a second run with the same id."""
    import wandb

    wandb.teardown()


def _init(run: TrackedRun, settings: WandbConfig, *, online: bool, key: str | None = None) -> wandb.Run:
    import wandb

    # The new offline folder will hold the run from its first step on, so those of earlier starts are superseded.
    for old in (run.folder / "wandb").glob(f"offline-run-*-{run.id}"):
        shutil.rmtree(old, ignore_errors=True)
    return wandb.init(
        project=settings.project,
        entity=settings.entity,
        id=run.id,
        name=run.name,
        resume="allow",
        config=dict(run.job),
        settings=_library_settings(run, online=online, key=key if online else None),
    )


def _library_settings(run: TrackedRun, *, online: bool, key: str | None) -> wandb.Settings:
    """Settings that keep W&B from uploading console output, code, git state, command line or machine information."""
    import wandb

    return wandb.Settings(
        mode="online" if online else "offline",
        api_key=key,
        root_dir=str(run.folder),
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
