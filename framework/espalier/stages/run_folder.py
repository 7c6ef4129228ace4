"""The folder of a run: where everything of it lives, and the small JSON files that the driver and workers share."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier.config.faults import Fault, RefusedInput
from espalier.config.job import Job
from espalier.stages.result import StageResult


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

    @property
    def cache(self) -> Path:
        """Tokenised text, shared by all runs below one storage."""
        return self.path.parent / ".cache"

    def stage(self, name: str) -> Path:
        return self.path / "stages" / name

    def export(self, name: str) -> Path:
        return self.path / "exports" / name

    def tokenizer(self, key: str) -> Path:
        return self.path / "tokenizers" / key

    def read_job(self) -> Job:
        """The job as it was resolved by the driver."""
        return Job.model_validate_json((self.path / "job.json").read_text())

    def ids(self) -> dict[str, Any]:
        """Ids of this run, W&B's among them; empty before the driver made them."""
        path = self.path / "run.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def attempts(self) -> int:
        """Orders ever given in this folder; it outlives results, so that a late worker never has a fresh number."""
        path = self.path / "attempts"
        return int(path.read_text()) if path.exists() else 0

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
        write_json(self.path / "attempts", attempt)

    def result(self, stage: str) -> StageResult | None:
        """The committed result of a stage; None when there is none yet."""
        path = self.stage(stage) / "result.json"
        return StageResult.from_json(json.loads(path.read_text())) if path.exists() else None

    def write_result(self, result: StageResult) -> None:
        """Commit a stage's result: from here on the stage is done."""
        write_json(self.stage(result.stage) / "result.json", result.to_json())


def write_json(path: Path, value: Any) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("w") as file:
        json.dump(value, file, indent=2, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
