"""Background checkpoints: training waits for a copy to the host; threads write, hash, sync and commit it."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from torch import Tensor

from espalier.checkpoint.fragments import Fragment
from espalier.checkpoint.steps import step_folder
from espalier.checkpoint.write import RankFiles, SupersededAttempt, abandon, begin, write_fragments
from espalier.jobs.trained_stage import TrainedStage
from espalier.saving.host_staging import HostStaging
from espalier.saving.states import Lineage, commit_save, forget_older, gather_files, table_fragments
from espalier.stages.failures import StageFailed
from espalier.worker.context import StageContext

_TRIES = 3  # of a write with an I/O error
_RANKS_OF_A_LOOK = 128  # gloo's all-reduce passes a ring, which takes 2 (R - 1) hops: from here on not in every step


@dataclass
class _Save:
    """A save in progress. Every worker writes its part; when all are done, rank zero commits.

    Attributes:
        tables: shapes of the tables in it.
        kept: folders of checkpoints that must not be removed.
        must_succeed: whether a failure stops the stage whatever `checkpoint.on_failure` says.
        files: the files that this worker has written; None until then.
        error: the failure of this worker's part.
    """

    step: int
    folder: str
    state: Mapping[str, Any]
    tables: dict[str, tuple[int, ...]]
    kept: tuple[str, ...]
    must_succeed: bool
    thread: threading.Thread | None = None
    files: RankFiles | None = None
    error: Exception | None = None
    is_written: bool = False


@dataclass
class Saver:
    """Saves the checkpoints of one training stage, one at a time. Every public method is collective.

    Workers agree between steps whether a save has finished, so that they all take the same decisions and no thread
    takes part in a collective.

    Attributes:
        folder: of the newest committed checkpoint.
        tables: returns the tables to save beside the model, equal on all workers. Collective.
        with_model: False for stages that make no model and save tables only.
    """

    context: StageContext[TrainedStage]
    lineage: Lineage
    folder: str
    tables: Callable[[], Mapping[str, Tensor]] = dict
    with_model: bool = True
    _staging: HostStaging = field(init=False)
    _save: _Save | None = None
    _kept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._staging = HostStaging(self.context.world.device)

    def hold_update(self) -> None:
        """Call before every update: it has to wait for the copy of the parameters that it changes."""
        self._staging.hold_update()

    def after_step(
        self,
        step: int,
        fragments: Callable[[], Iterable[Fragment]],
        *,
        state: Mapping[str, Any],
        last: bool,
        best: str | None = None,
    ) -> None:
        """Start a save if one is due, advance the save in progress, and stop if that was requested.

        Beyond 128 workers the last two happen at every second step, beyond 256 at every third, and so on.

        A checkpoint of other settings on which a later stage's state is based is replaced only by the last save.

        Args:
            step: number of updates done; saved if it is a multiple of `checkpoint.every`, or the last.
            fragments: this worker's part of the state, not copied.
            state: JSON values that resuming needs.
            best: folder of the best checkpoint, which is kept; if it is of this step, it is saved in any case.

        Raises:
            StageFailed: a stop was requested (the state is saved), or a file could not be written.
        """
        settings, must = self.context.config.checkpoint, best == step_folder(self.context.config.name, step)
        self._kept = (best,) if best else ()
        if settings.in_background:
            self._staging.prepare(fragments())
        is_due = last or must or step % settings.every == 0
        between = -(-self.context.world.size // _RANKS_OF_A_LOOK)
        stop, preempted = self._look() if is_due or step % between == 0 else (0, 0)
        if not (is_due or stop or preempted):
            return
        final, folder = last or bool(stop or preempted), step_folder(self.context.config.name, step)
        if folder in self.context.needed_states and not (final or must):
            self.context.announce(f"no checkpoint at step {step}: later stages stand on the one that is there")
        elif final or must or not settings.in_background:
            self.finish()
            self._begin(step, fragments, state, must_succeed=final or must)
            if final or not settings.in_background:
                self.finish()
        elif self._save is None:
            self._begin(step, fragments, state)
        else:
            text = f"no checkpoint at step {step}: that of step {self._save.step} is still being written"
            self.context.announce(text)
        if stop or preempted:
            raise StageFailed("stopped" if stop else "preempted", f"after step {step}, which is saved")

    def save(self, step: int, *, state: Mapping[str, Any]) -> None:
        """Save the tables of a stage without a model, and wait until they are committed.

        Raises:
            StageFailed: a file could not be written.
        """
        self._begin(step, tuple, state, must_succeed=True)
        self.finish()

    def stop_if_requested(self, step: int) -> None:
        """Stop if that was requested, without saving anything more.

        Raises:
            StageFailed: a stop was requested.
        """
        stop, preempted = self._look()
        if stop or preempted:
            raise StageFailed(
                "stopped" if stop else "preempted", f"after {step} of its parts, whose predictions are saved"
            )

    def finish(self) -> None:
        """Wait for the save in progress, if any.

        Raises:
            StageFailed: a file could not be written, and the save must succeed.
        """
        if self._save is not None:
            self.context.control.beat(f"the end of a save of {self.context.config.name}")
        while self._save is not None:
            if self._save.thread is not None:
                self._save.thread.join()
            self._look()

    def close(self) -> None:
        """Wait for the thread. A save that is not committed is lost. Not collective."""
        if self._save is not None and self._save.thread is not None:
            self._save.thread.join()

    def _begin(
        self,
        step: int,
        fragments: Callable[[], Iterable[Fragment]],
        state: Mapping[str, Any],
        *,
        must_succeed: bool = False,
    ) -> None:
        context, began = self.context, time.time()
        context.control.beat(f"the copy for a save of {context.config.name}")
        tables = self.tables()
        shapes = {name: tuple(table.shape) for name, table in tables.items()}
        save = _Save(step, step_folder(context.config.name, step), state, shapes, self._kept, must_succeed)
        if context.world.is_rank_zero:
            context.times.record("saving", context.config.name, step, time=began)
            save.error = _error_of(lambda: begin(context.storage, save.folder, attempt=context.attempt))
        context.world.barrier()
        of_rank_zero = table_fragments(tables) if context.world.is_rank_zero else ()
        staged = self._staging.take(chain(fragments(), of_rank_zero))
        self._save = save
        if save.error is None:
            self._start(save, lambda: self._write(save, staged))
        if context.world.is_rank_zero:
            context.times.record("working", context.config.name, step)

    def _write(self, save: _Save, staged: list[Fragment]) -> None:
        self._staging.wait()
        context = self.context
        for attempts_left in reversed(range(_TRIES)):
            try:
                save.files = write_fragments(
                    context.storage,
                    save.folder,
                    fragments=staged,
                    rank=context.world.rank,
                    attempt=context.attempt,
                )
                return
            except OSError as error:
                if error.errno != errno.EIO or not attempts_left:
                    raise
                time.sleep(1.0)

    def _start(self, save: _Save, work: Callable[[], object]) -> None:
        def run() -> None:
            save.error = _error_of(work)

        save.thread = threading.Thread(target=run, name=f"save-{save.step}", daemon=True)
        save.thread.start()

    def _look(self) -> tuple[int, int]:
        """Advance the save in progress if no worker is busy with it; the numbers of stop and preemption requests."""
        control, save = self.context.control, self._save
        busy = save is not None and save.thread is not None and save.thread.is_alive()
        flags = (control.stop.is_set(), control.preempted.is_set(), busy, save is not None and save.error is not None)
        stop, preempted, busy_workers, failed_workers = self.context.world.sum_flags(*flags)
        if save is not None and not busy_workers:
            # An error after the flags were read is handled in the next call: the thread counted as busy in this one.
            if failed_workers:
                self._give_up(save)
            elif save.is_written:
                self._save, self.folder = None, save.folder
            else:
                self._commit(save)
        return stop, preempted

    def _commit(self, save: _Save) -> None:
        assert save.files is not None
        ranks = gather_files(self.context.world, save.files)
        save.is_written, save.thread = True, None
        if self.context.world.is_rank_zero:
            self._start(save, lambda: self._commit_and_forget(save, ranks))

    def _commit_and_forget(self, save: _Save, ranks: list[bytes]) -> None:
        stage = self.context.config
        commit_save(
            self.context,
            save.folder,
            self.lineage,
            step=save.step,
            zero_level=stage.zero_level,
            state=save.state,
            ranks=ranks,
            tables=save.tables,
            with_model=self.with_model,
        )
        forget_older(self.context, keep_latest=stage.checkpoint.keep_latest, keep=save.kept)

    def _give_up(self, save: _Save) -> None:
        """Remove the files of a failed save, and stop the stage or go on. No worker writes to it any more."""
        story = save.error and (str(save.error), isinstance(save.error, OSError))
        stories = [one for one in self.context.world.gather(story) if one]
        text = f"the checkpoint of step {save.step} could not be written: {stories[0][0]}"
        self._save = None
        of_the_disk = all(is_of_the_disk for _, is_of_the_disk in stories)
        if of_the_disk and self.context.world.is_rank_zero:
            with suppress(OSError, SupersededAttempt):  # removing may fail as well on a broken disk
                abandon(self.context.storage, save.folder, attempt=self.context.attempt)
        if save.must_succeed or not of_the_disk or self.context.config.checkpoint.on_failure == "stop":
            raise StageFailed("storage", f"stage {self.context.config.name}: {text}; the one before it is untouched")
        self.context.announce(f"{text}; going on, as checkpoint.on_failure says")


def _error_of(work: Callable[[], object]) -> Exception | None:
    try:
        work()
    except Exception as error:
        return error
    return None
