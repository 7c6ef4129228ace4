"""The folder of a run: where everything of it lives, and the small JSON files that the driver and workers share."""

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
    attempts           how many orders were ever given here
    lock               who holds the run
    tokenizers/<key>/  each tokenizer once
    stages/<name>/     step-<n>/ checkpoints, result.json, what a stage keeps beside
    records/           steps.jsonl, events.jsonl
    exports/<name>/    models as plain Hugging Face folders
    report.html
    ```
    """

    path: Path

    @staticmethod
    def of(job: Job) -> RunFolder:
        return RunFolder(Path(job.storage) / job.name)

    def make(self, job: Job) -> None:
        """Make the folder where it is missing, for those whom the job shares it with.

        Everything in it is behind it, so nothing else needs a mode. One that is there may have been opened or closed
        by hand.
        """
        self.files.make_folder(".", mode=job.folder_mode)

    @property
    def cache(self) -> Path:
        """Tokenised text, shared by all of this user's runs below one storage; another user's is not trusted."""
        shared, user = self.path.parent / ".cache", os.getuid()
        is_anothers = shared.exists() and shared.stat().st_uid != user
        return shared.with_name(f".cache-{user}") if is_anothers else shared

    def stage(self, name: str) -> Path:
        return self.path / "stages" / name

    def export(self, name: str) -> Path:
        return self.path / "exports" / name

    def tokenizer(self, key: str) -> Path:
        """The folder of a model's tokenizer, which holds its other files, too.

        Raises:
            RefusedInput: no key of a tokenizer, or a link out of the run; others may write here and in what names it.
        """
        if not key or not _is_tokenizer_key(key):
            raise RefusedInput([Fault(str(self.path / "tokenizers"), key, "the key of a tokenizer of this run")])
        folder = self.path / "tokenizers" / key
        if not folder.resolve().is_relative_to(self.path.resolve()):
            raise RefusedInput([Fault(str(folder), "a link", "a folder of this run; this one leads out of it")])
        return folder

    @property
    def files(self) -> LocalStorage:
        """All that is written here goes through this."""
        return LocalStorage(self.path)

    def read(self, kind: type[Kind], file: str, *, what: str, remedy: str = _REMEDY) -> Kind | None:
        """A small file's value; None when there is no such file. See `read_record`."""
        return read_record(kind, self.path / file, what=what, remedy=remedy)

    def write_json(self, file: str, value: Any) -> None:
        """Write a small file whole or not at all, durably, in place of an earlier one."""
        self.files.make_folder(PurePosixPath(file).parent.as_posix())
        self.files.replace(file, json.dumps(value, indent=2, allow_nan=False).encode())

    def remove(self, path: str) -> None:
        """Remove a file or a folder, durably; nothing to do when there is none."""
        files = self.files
        if files.exists(path):
            files.remove(path)
            files.sync_folder(PurePosixPath(path).parent.as_posix())

    def tidy(self) -> None:
        """Remove what a kill in the middle of a write has left. Only for who holds the run.

        Saves and exports that were not finished are the business of the stage that they are of.
        """
        for pattern in ("*", "records/*", "records/samples/*/*", "stages/*/*", "tokenizers/*"):
            with suppress(FileNotFoundError):  # a worker that nobody has ended yet may be at work
                for path in self.path.glob(pattern):
                    if is_unfinished(path.name):
                        self.remove(path.relative_to(self.path).as_posix())

    def read_job(self) -> Job:
        """The job as it was resolved by the driver.

        Raises:
            FileNotFoundError: there is none.
            RefusedInput: it is none that this espalier can read.
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
        """The resolved job as plain values, of whatever espalier wrote it; empty when there is none."""
        return self.read(dict[str, Any], "job.json", what="job of a run") or {}

    def plan(self) -> tuple[PlanEntry, ...]:
        """The stages as they were planned, inputs first; none when there is no plan yet.

        Raises:
            RefusedInput: no plan, or one whose stages take from others that do not come before them.
        """
        entries = self.read(tuple[PlanEntry, ...], "plan.json", what="plan of a run") or ()
        before: set[str] = set()
        for entry in entries:
            if entry.name in before or not before.issuperset(entry.inputs.values()):
                reason = f"stage {entry.name} stands twice or takes from a stage that does not come before it"
                raise unreadable(self.path / "plan.json", what="plan of a run", reason=reason, remedy=_REMEDY)
            before.add(entry.name)
        return entries

    def planned(self, stage: str) -> PlanEntry | None:
        """What the plan says of a stage; None when it has no such stage."""
        return next((entry for entry in self.plan() if entry.name == stage), None)

    def ids(self) -> dict[str, Any]:
        """Ids of this run, W&B's among them; empty before the driver made them."""
        found = self.read(RunFile, "run.json", what="record of a run")
        return {} if found is None else found.model_dump(exclude={"schema_version"})

    def attempts(self) -> int:
        """Orders ever given in this folder; it outlives results, so that a late worker never has a fresh number."""
        return self.read(Attempts, "attempts", what="number of attempts") or 0

    def note_attempt(self, attempt: int) -> None:
        """Remember an order before it is given.

        Raises:
            RefusedInput: as many were given already: another process has gone on with this run.
        """
        if (given := self.attempts()) >= attempt:
            allowed = (
                f"a run that nobody else goes on with; attempt {given} was begun by another process, so leave it to it"
            )
            raise RefusedInput([Fault(str(self.path), f"attempt {attempt}", allowed)])
        self.write_json("attempts", attempt)

    def result(self, stage: str) -> StageResult | None:
        """The committed result of a stage; None when there is none yet."""
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
        """By stage, for those that have one, in the order given."""
        return {stage: result for stage in stages if (result := self.result(stage)) is not None}

    def write_result(self, result: StageResult) -> None:
        """Commit a stage's result: from here on the stage is done."""
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
