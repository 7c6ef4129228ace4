"""What a stage's work is given: its run, its settings, its world."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from espalier.checkpoint.read import StateReader
from espalier.checkpoint.storage import LocalStorage
from espalier.config.job import Job
from espalier.config.stages import StageConfig
from espalier.data.fingerprint import Split
from espalier.data.packing import Sequences
from espalier.data.sequences import open_sequences
from espalier.distributed.world import World
from espalier.models.pretrained import PretrainedTokenizer
from espalier.recipes import stages_of
from espalier.stages.run_folder import RunFolder
from espalier.tracking.events import EVENTS, EventLog


@dataclass(frozen=True)
class StageContext:
    """One stage's work on one worker.

    Attributes:
        key: the stage's key in the plan; its result carries it.
        parent: name of the loaded model that this stage's line comes from.
    """

    folder: RunFolder
    job: Job
    config: StageConfig
    key: str
    parent: str
    attempt: int
    world: World
    events: EventLog
    started: float = field(default_factory=time.time)

    @staticmethod
    def open(run_folder: Path, stage: str, *, attempt: int, world: World) -> StageContext:
        """Read what the driver wrote: the job and the plan."""
        folder = RunFolder(run_folder)
        job = folder.read_job()
        config = next(config for config in stages_of(job) if config.name == stage)
        plan = json.loads((run_folder / "plan.json").read_text())
        entry = next(entry for entry in plan if entry["name"] == stage)
        events = EventLog(run_folder / EVENTS)
        return StageContext(folder, job, config, entry["key"], entry["parent"], attempt, world, events)

    @property
    def storage(self) -> LocalStorage:
        return LocalStorage(self.folder.path)

    def model_of(self, stage: str) -> StateReader:
        """The committed model of an earlier stage; rank zero holds it to its hashes."""
        result = self.folder.result(stage)
        assert result is not None and result.checkpoint is not None, f"stage {stage} has no model"
        return StateReader.open(self.storage, result.checkpoint, verify=self.world.is_rank_zero)

    def tokenizer(self) -> PretrainedTokenizer:
        """The tokenizer of this stage's line of models."""
        result = self.folder.result(self.parent)
        assert result is not None
        return PretrainedTokenizer(self.folder.tokenizer(result.metrics["tokenizer"]))

    def sequences(self, split: Split) -> Sequences:
        """The tokenised text of a split; rank zero makes the cache when there is none. Collective."""
        tokenizer = self.tokenizer()

        def open_them() -> Sequences:
            return open_sequences(self.job.data, split, tokenizer=tokenizer, cache=self.folder.cache)

        if self.world.is_rank_zero:
            self.activity(f"reading the {split} text")
            open_them()
        self.world.barrier()
        return open_them()

    def activity(self, text: str) -> None:
        """Tell the person who watches what goes on; rank zero speaks."""
        if self.world.is_rank_zero:
            self.events.add("activity", self.config.name, text)
