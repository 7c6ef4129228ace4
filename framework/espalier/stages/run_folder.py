"""The folder of a run: where everything of it lives, and the small JSON files that the driver and workers share."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from espalier.config.faults import Fault, RefusedInput
from espalier.config.job import Job
from espalier.stages.result import StageResult
from espalier.storage.contract import is_unfinished
from espalier.storage.local import LocalStorage

_MAX_BYTES = 64 * 2**20
TOKENIZER_KEY = re.compile(r"[0-9a-z][0-9a-z-]{0,63}")
"""Of the hash that a tokenizer's folder is called by."""


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
        if not TOKENIZER_KEY.fullmatch(key):
            raise RefusedInput([Fault(str(self.path / "tokenizers"), key, "the key of a tokenizer of this run")])
        folder = self.path / "tokenizers" / key
        if not folder.resolve().is_relative_to(self.path.resolve()):
            raise RefusedInput([Fault(str(folder), "a link", "a folder of this run; this one leads out of it")])
        return folder

    @property
    def files(self) -> LocalStorage:
        """All that is written here goes through this."""
        return LocalStorage(self.path)

    def read_json(self, file: str, *, missing: Any = None) -> Any:
        """A small file's value; `missing` when there is no such file."""
        path = self.path / file  # a finished stage's folder may have been moved away, with a link left behind
        try:
            return json.loads(LocalStorage(path.parent).read_bytes(path.name, max_bytes=_MAX_BYTES))
        except FileNotFoundError:
            return missing

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
        """The job as it was resolved by the driver."""
        return Job.model_validate_json(self.files.read_bytes("job.json", max_bytes=_MAX_BYTES))

    def ids(self) -> dict[str, Any]:
        """Ids of this run, W&B's among them; empty before the driver made them."""
        return self.read_json("run.json", missing={})

    def attempts(self) -> int:
        """Orders ever given in this folder; it outlives results, so that a late worker never has a fresh number."""
        return self.read_json("attempts", missing=0)

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
        value = self.read_json(f"stages/{stage}/result.json")
        return None if value is None else StageResult.from_json(value)

    def results(self, stages: Iterable[str]) -> dict[str, StageResult]:
        """By stage, for those that have one, in the order given."""
        return {stage: result for stage in stages if (result := self.result(stage)) is not None}

    def write_result(self, result: StageResult) -> None:
        """Commit a stage's result: from here on the stage is done."""
        self.write_json(f"stages/{result.stage}/result.json", result.to_json())
