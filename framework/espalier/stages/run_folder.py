"""The folder of a run: its layout, and reading and writing its small JSON files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import Job
from espalier.stages.files import Attempts, MetricsOfModel, PlanEntry, ResultFile, RunFile
from espalier.stages.result import StageResult
from espalier.storage.contract import is_unfinished
from espalier.storage.local import LocalStorage
from espalier.storage.names import TokenizerKey
from espalier.storage.records import first_reason, read_record, unreadable

_REMEDY = "the file as espalier wrote it; bring back a copy of it, or run the job again under another name"
_REMEDY_RESULT = "a result as a stage wrote it; bring back a copy, or remove the file and have the stage run again"

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class RunFolder:
    """Paths below `<storage>/<job name>`.

    ```
    job.json           the resolved job
    plan.json          the stages as `plan` showed them, with their keys
    run.json           ids of this run, when it began, versions
    attempts           number of orders ever given
    lock               the process that holds the run
    tokenizers/<key>/  each tokenizer once
    stages/<name>/     step-<n>/ checkpoints, result.json, what a stage keeps beside
    records/           steps.jsonl, events.jsonl, attempts.jsonl, ...
    driver.json        heartbeat and end of the driver; links.json: the run's pages in trackers
    submits/           submissions to clusters, see `submissions`
    stop.json          the wish that the driver stops
    exports/<name>/    models as plain Hugging Face folders
    report.html
    ```
    """

    path: Path

    @staticmethod
    def of(job: Job) -> RunFolder:
        return RunFolder(Path(job.storage) / job.name)

    def make(self, job: Job) -> None:
        """Create the folder if it is missing, with the mode that the job's sharing asks for.

        Files in it need no mode of their own. The mode of an existing folder is kept: a user may have changed it.
        """
        self.files.make_folder(".", mode=job.folder_mode)

    @property
    def cache(self) -> Path:
        """Folder of tokenised text, shared by this user's runs below one storage; another user's is not trusted."""
        shared, user = self.path.parent / ".cache", os.getuid()
        is_anothers = shared.exists() and shared.stat().st_uid != user
        return shared.with_name(f".cache-{user}") if is_anothers else shared

    def stage(self, name: str) -> Path:
        return self.path / "stages" / name

    def export(self, name: str) -> Path:
        return self.path / "exports" / name

    def tokenizer(self, key: str) -> Path:
        """The folder of a tokenizer, with the model's other files. The key is checked, because it comes from a file.

        Raises:
            RefusedInput: not a valid key, or the folder is a link out of the run.
        """
        if not key or not _is_tokenizer_key(key):
            raise RefusedInput([Fault(str(self.path / "tokenizers"), key, "the key of a tokenizer of this run")])
        folder = self.path / "tokenizers" / key
        if not folder.resolve().is_relative_to(self.path.resolve()):
            raise RefusedInput([Fault(str(folder), "a link", "a folder of this run; this one leads out of it")])
        return folder

    @property
    def files(self) -> LocalStorage:
        """The storage through which everything in the folder is written."""
        return LocalStorage(self.path)

    def read(self, kind: type[Kind], file: str, *, what: str, remedy: str = _REMEDY) -> Kind | None:
        """Read and validate a small file; None when it does not exist. See `read_record`."""
        return read_record(kind, self.path / file, what=what, remedy=remedy)

    def write_json(self, file: str, value: Any) -> None:
        """Write a small file atomically and durably, replacing an earlier one."""
        self.files.make_folder(PurePosixPath(file).parent.as_posix())
        self.files.replace(file, json.dumps(value, indent=2, allow_nan=False).encode())

    def remove(self, path: str) -> None:
        """Remove a file or a folder durably; does nothing when it does not exist."""
        files = self.files
        if files.exists(path):
            files.remove(path)
            files.sync_folder(PurePosixPath(path).parent.as_posix())

    def tidy(self) -> None:
        """Remove temporary files that a kill during a write has left. Only the holder of the lock may call it.

        Unfinished checkpoints and exports are removed by their own stage.
        """
        for pattern in ("*", "records/*", "records/samples/*/*", "stages/*/*", "submits/*", "tokenizers/*"):
            with suppress(FileNotFoundError):  # a worker that is still to be killed may remove it first
                for path in self.path.glob(pattern):
                    if is_unfinished(path.name):
                        self.remove(path.relative_to(self.path).as_posix())

    def read_job(self) -> Job:
        """The resolved job of the last start.

        Raises:
            FileNotFoundError: there is no job.json.
            RefusedInput: this version cannot read it.
        """
        values = self.job_values()
        if not values:
            raise FileNotFoundError(str(self.path / "job.json"))
        try:
            return Job.model_validate_json(json.dumps(values))
        except ValidationError as error:
            raise unreadable(
                self.path / "job.json", what="job that can be read", reason=first_reason(error), remedy=_REMEDY
            ) from None

    def job_values(self) -> dict[str, Any]:
        """The resolved job as plain JSON values, of any version; empty when there is none."""
        return self.read(dict[str, Any], "job.json", what="job of a run") or {}

    def plan(self) -> tuple[PlanEntry, ...]:
        """The planned stages, inputs first; empty when there is no plan yet.

        Raises:
            RefusedInput: plan.json cannot be read, has duplicate stages, or has a stage before its input.
        """
        entries = self.read(tuple[PlanEntry, ...], "plan.json", what="plan of a run") or ()
        before: set[str] = set()
        for entry in entries:
            if entry.name in before or not before.issuperset(entry.inputs.values()):
                reason = f"stage {entry.name} is listed twice or takes from a stage that does not come before it"
                raise unreadable(self.path / "plan.json", what="plan of a run", reason=reason, remedy=_REMEDY)
            before.add(entry.name)
        return entries

    def planned(self, stage: str) -> PlanEntry | None:
        """What the plan says of a stage; None when it has no such stage."""
        return next((entry for entry in self.plan() if entry.name == stage), None)

    def ids(self) -> dict[str, Any]:
        """The content of run.json: ids (the trackers' among them) and versions; empty before the driver wrote it."""
        found = self.read(RunFile, "run.json", what="record of a run")
        return {} if found is None else found.model_dump(exclude={"schema_version"})

    def attempts(self) -> int:
        """Number of orders ever given in this folder. It is never reset, so no number is given twice."""
        return self.read(Attempts, "attempts", what="number of attempts") or 0

    def note_attempt(self, attempt: int) -> None:
        """Record the number of an order before it is given.

        Raises:
            RefusedInput: the number was used already, because another process continues this run.
        """
        if (given := self.attempts()) >= attempt:
            allowed = (
                f"a run that nobody else goes on with; attempt {given} was begun by another process, so leave it to it"
            )
            raise RefusedInput([Fault(str(self.path), f"attempt {attempt}", allowed)])
        self.write_json("attempts", attempt)

    def result(self, stage: str) -> StageResult | None:
        """The committed result of a stage; None when it has none."""
        file = f"stages/{stage}/result.json"
        found = self.read(ResultFile, file, what="result of a stage", remedy=_REMEDY_RESULT)
        if found is None:
            return None
        self._require(found.stage == stage, file, f"it is of stage {found.stage}")
        try:
            MetricsOfModel.model_validate(found.metrics)
        except ValidationError as error:
            self._require(False, file, f"metrics.{first_reason(error)}")
        return StageResult.of(found)

    def results(self, stages: Iterable[str]) -> dict[str, StageResult]:
        """Stage name -> result, for the stages that have one, in the order given."""
        return {stage: result for stage in stages if (result := self.result(stage)) is not None}

    def write_result(self, result: StageResult) -> None:
        """Commit a stage's result, which makes the stage done."""
        self.write_json(f"stages/{result.stage}/result.json", result.to_json())

    def _require(self, is_right: bool, file: str, reason: str) -> None:
        if not is_right:
            raise unreadable(self.path / file, what="result of a stage", reason=reason, remedy=_REMEDY_RESULT)


def _is_tokenizer_key(key: str) -> bool:
    try:
        TypeAdapter(TokenizerKey).validate_python(key)
    except ValidationError:
        return False
    return True
