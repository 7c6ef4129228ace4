"""The context of a stage on a worker: run folder, settings, process group, records."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from espalier.checkpoint.bases import check_state, standing_on
from espalier.checkpoint.manifest import DamagedCheckpoint, Manifest
from espalier.checkpoint.manifest_file import Hashed
from espalier.checkpoint.places import state_storage
from espalier.checkpoint.read import StateReader
from espalier.config.format import DataSettings
from espalier.config.formats import format_of
from espalier.data.examples import Labelled
from espalier.data.fingerprint import Split
from espalier.data.packing import Sequences
from espalier.distributed.world import World
from espalier.jobs.data_sets import faults_of_data_set
from espalier.jobs.job import Job
from espalier.jobs.recipe import stages_of
from espalier.jobs.stage import StageSettings
from espalier.models.model_files import require_key
from espalier.models.pretrained import PretrainedTokenizer
from espalier.models.shape import ConfigDict
from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.stages.run_folder import RunFolder
from espalier.storage.contract import Storage
from espalier.tracking.events import EVENTS, EventLog
from espalier.tracking.time_log import TIME, TimeLog

Settings = TypeVar("Settings", bound=StageSettings, covariant=True)


@dataclass(frozen=True)
class StageContext(Generic[Settings]):
    """Everything that a stage's work on one worker is given.

    Attributes:
        key: the stage's key in the plan; its result carries it.
        parent: name of the loaded model that this stage's line comes from.
        texts: fingerprint of each split, as planned; empty for formats that keep no tokens.
        hashed: files of states that this worker has held to their hashes in this attempt.
    """

    folder: RunFolder
    job: Job
    config: Settings
    key: str
    parent: str
    texts: Mapping[Split, str]
    attempt: int
    world: World
    events: EventLog
    times: TimeLog
    control: Control = field(default_factory=Control)
    started: float = field(default_factory=time.time)
    hashed: Hashed = field(default_factory=set)

    @staticmethod
    def open(order: StageOrder, world: World, control: Control) -> StageContext[StageSettings]:
        """Read the job and the plan that the driver wrote, for one order."""
        run_folder, stage = Path(order.run_folder), order.stage
        folder = RunFolder(run_folder)
        job = folder.read_job()
        config = next(config for config in stages_of(job) if config.name == stage)
        entry = folder.planned(stage)
        assert entry is not None and entry.parent is not None, entry
        events, times = EventLog(run_folder / EVENTS), TimeLog(run_folder / TIME)
        return StageContext(
            folder, job, config, entry.key, entry.parent, entry.texts, order.attempt, world, events, times, control
        )

    @cached_property
    def storage(self) -> Storage:
        """The storage of committed states; one object, because it caches files of a remote store."""
        return state_storage(self.folder.path, self.job)

    @cached_property
    def needed_states(self) -> frozenset[str]:
        """Folders that committed states stand on. While this stage runs none is added: later stages have not begun."""
        return frozenset(standing_on(self.storage))

    def model_of(self, stage: str) -> StateReader:
        """The committed model of an earlier stage, for its configuration or its values; see `state`."""
        result = self.folder.result(stage)
        assert result is not None and result.checkpoint is not None, f"stage {stage} has no model"
        return self.state(result.checkpoint, stage=stage)

    def state(self, folder: str, *, stage: str) -> StateReader:
        """A committed state of a stage.

        Before its first value is read, files are held to their sizes and, once in an attempt, to their hashes: by rank
        zero, and published files outside of the run by one worker of each host, which may have its own. The manifest is
        held to its hash at once.

        Raises:
            StageFailed: it is not as it was written; so does the first read. Storage may recover, so this is worth a
                second try.
        """

        def check(manifest: Manifest) -> None:
            verify, outside = self.world.is_rank_zero, self.world.is_first_of_host
            with self._damage_told(stage):
                check_state(self.storage, folder, manifest, verify=verify, outside=outside, hashed=self.hashed)

        with self._damage_told(stage):
            return StateReader.described(self.storage, folder, check=check)

    @contextmanager
    def _damage_told(self, stage: str) -> Iterator[None]:
        try:
            yield
        except DamagedCheckpoint as damage:
            remedy = f"put its files back, or remove `stages/{stage}` from the run's folder to have it made again"
            raise StageFailed("error", f"stage {self.config.name}: {damage}; {remedy}") from damage

    @property
    def data(self) -> DataSettings:
        """The data settings of the stage."""
        return self.job.data_of(self.config)

    @cached_property
    def labelled(self) -> Labelled | None:
        """The labelled samples of the stage, read by every worker; None where targets are words."""
        read = format_of(self.data).call("labelled")
        if read is None:
            return None
        with faults_of_data_set(self.config.data):
            labelled: Labelled = read(self.data, seed=self.job.seed)
        return labelled

    def tokenizer(self) -> PretrainedTokenizer:
        """The tokenizer of the `load` stage that this stage's model comes from."""
        result = self.folder.result(self.parent)
        assert result is not None
        folder = self.folder.tokenizer(result.tokenizer)
        require_key(folder, result.tokenizer)
        return PretrainedTokenizer(folder, special_tokens=self.data.around_documents or "own")

    def sequences(self, split: Split) -> Sequences:
        """The tokenised samples of a split, as the format of the stage's data makes them. Collective."""
        with faults_of_data_set(self.config.data):
            found: Sequences = format_of(self.data).call("sequences")(self, split)
        return found

    @property
    def input_model(self) -> ConfigDict:
        """The configuration of the model that this stage starts from, that of its first input."""
        return self.model_of(next(iter(self.config.inputs().values()))).manifest.origin.model

    def activity(self, text: str) -> None:
        """Report the current activity: to the hang detector on every worker, to the record on rank zero."""
        self.control.beat(f"activity {self.config.name}: {text.rstrip('0123456789/ ')}")
        if self.world.is_rank_zero:
            self.events.add("activity", self.config.name, text)

    def announce(self, text: str) -> None:
        """Write a note for people into the record; on rank zero."""
        if self.world.is_rank_zero:
            self.events.add("note", self.config.name, text)
