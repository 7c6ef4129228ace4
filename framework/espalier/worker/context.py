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
from espalier.config.data import DataConfig
from espalier.config.labelled import LabelledConfig
from espalier.data.examples import Labelled, read_labelled
from espalier.data.fingerprint import Split
from espalier.data.labelled_sequences import LabelledSequences, ReadAt
from espalier.data.packing import Sequences
from espalier.data.sequences import keep_tokens, open_sequences
from espalier.distributed.world import World
from espalier.jobs.data_sets import faults_of_data_set
from espalier.jobs.job import Job
from espalier.jobs.recipe import stages_of
from espalier.jobs.stage import StageSettings
from espalier.models.families import is_causal
from espalier.models.model_files import require_key
from espalier.models.pretrained import PretrainedTokenizer
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
        texts: fingerprint of the text of each split, as planned; empty for data with labels.
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
    def data(self) -> DataConfig | LabelledConfig:
        """The data settings of the stage."""
        return self.job.data_of(self.config)

    @cached_property
    def labelled(self) -> Labelled | None:
        """The labelled samples of the stage, read by every worker; None for text."""
        data = self.data
        if not isinstance(data, LabelledConfig):
            return None
        with faults_of_data_set(self.config.data):
            return read_labelled(data, seed=self.job.seed)

    def tokenizer(self) -> PretrainedTokenizer:
        """The tokenizer of the `load` stage that this stage's model comes from."""
        result = self.folder.result(self.parent)
        assert result is not None
        key, data = result.tokenizer, self.data
        folder = self.folder.tokenizer(key)
        require_key(folder, key)
        if isinstance(data, LabelledConfig):
            return PretrainedTokenizer(folder)
        return PretrainedTokenizer(folder, special_tokens=data.special_tokens)

    def sequences(self, split: Split) -> Sequences:
        """The tokenised samples of a split; rank zero makes the cache of a text if needed. Collective."""
        tokenizer, data = self.tokenizer(), self.data
        if isinstance(data, LabelledConfig):
            return self._labelled_sequences(split, tokenizer, max_tokens=data.sequence_tokens)
        with faults_of_data_set(self.config.data):
            kept = self.world.from_rank_zero(self._keep_tokens(split, data, tokenizer))
            return open_sequences(data, split, tokenizer=tokenizer, cache=self.folder.cache, kept=kept)

    def _labelled_sequences(self, split: Split, tokenizer: PretrainedTokenizer, *, max_tokens: int) -> Sequences:
        model = self.model_of(self._first_input).manifest.origin.model
        read_at: ReadAt = "last" if is_causal(model) else "first"
        pad_id = model.get("pad_token_id")
        examples = getattr(self.labelled, split)
        return LabelledSequences.of(examples, tokenizer, max_tokens=max_tokens, read_at=read_at, pad_id=pad_id)

    @property
    def _first_input(self) -> str:
        """The stage that gives this one its model."""
        return next(iter(self.config.inputs().values()))

    def _keep_tokens(self, split: Split, data: DataConfig, tokenizer: PretrainedTokenizer) -> str | None:
        """On rank zero verify or make the cached tokens of a text; the name of their folder."""
        if not self.world.is_rank_zero:
            return None
        self.activity(f"reading the {split} text")
        return keep_tokens(
            data,
            split,
            tokenizer=tokenizer,
            cache=self.folder.cache,
            planned=self.texts.get(split),
            on_progress=lambda done: self.control.alive(),
            on_distrust=self.announce,
        )

    def activity(self, text: str) -> None:
        """Report the current activity: to the hang detector on every worker, to the record on rank zero."""
        self.control.beat(f"activity {self.config.name}: {text.rstrip('0123456789/ ')}")
        if self.world.is_rank_zero:
            self.events.add("activity", self.config.name, text)

    def announce(self, text: str) -> None:
        """Write a note for people into the record; on rank zero."""
        if self.world.is_rank_zero:
            self.events.add("note", self.config.name, text)
