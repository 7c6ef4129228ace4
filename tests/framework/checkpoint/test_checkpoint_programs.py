"""Random programs of saves, crashes, damage, sleepers and resumes, held to what was committed."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from checkpoint_cases import SLOTS, Stopped, StoppingStorage
from checkpoint_damages import ALONE, duplicate, replace, swap, write_newer
from checkpoint_history import MANIFEST, STAGE, History, Version
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from espalier.checkpoint.manifest import DamagedCheckpoint
from espalier.checkpoint.steps import latest
from espalier.checkpoint.write import SupersededAttempt
from espalier.config.faults import RefusedInput
from espalier.storage.local import LocalStorage

NUM_PROGRAMS, NUM_RULES = 500, 12
SIZES = (  # of a model as it is grown and pruned
    {"body": (5, 7), "scale": ()},
    {"body": (7, 11), "scale": (), "bias": (3,)},
    {"body": (2, 7)},
)
SAVES = st.fixed_dictionaries(
    {
        "num_ranks": st.integers(1, 4),
        "slots": st.sets(st.sampled_from(SLOTS[1:])),
        "max_file_bytes": st.sampled_from([2**20, 2**20, 100]),
        "keep_latest": st.sampled_from([1, 1, 2, 3, None]),
        "num_steps": st.sampled_from([2, 2, 1]),
        "shapes": st.sampled_from(SIZES),
    }
)
PLACES = st.sampled_from([0.0, 0.3, 0.7, 0.999])


class Programs(RuleBasedStateMachine):
    """One run folder and its attempts.

    `position` is the step that the attempt at work has reached, `sleepers` are saves of earlier attempts that
    somebody stopped and nobody ended, each with whether it had committed by then.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.history = History(LocalStorage(root))
        self.attempt, self.position = 1, 0
        self.sleepers: list[tuple[Version, Iterator[None], bool]] = []
        self.seeds = itertools.count()

    def teardown(self) -> None:
        self.history.check_latest()
        shutil.rmtree(self.root, ignore_errors=True)

    @rule(how=SAVES)
    def save(self, how: dict) -> None:
        version = self._next_version(how)
        before = self._before(version)
        for _ in version.save(self.history.storage):
            pass
        assert self.history.on_disk(version.folder) is not None, "what was just saved was removed"
        self._settle(version, before)
        if version.keep_latest:
            kept = [one for one in self.history.storage.list(STAGE) if f"{STAGE}/{one}" <= version.folder]
            assert len(kept) <= version.keep_latest, "what is no longer needed is left over"
        self.history.check_latest()
        self.position = version.step

    @rule(how=SAVES, stop_at=st.integers(0, 25), when=st.sampled_from(["before", "torn", "after"]))
    def crash(self, how: dict, stop_at: int, when: str) -> None:
        version = self._next_version(how)
        before = self._before(version)
        with contextlib.suppress(Stopped):
            for _ in version.save(StoppingStorage(self.root, stop_at=stop_at, how=when)):
                pass
        self._settle(version, before)
        self._resume(how["num_ranks"])

    @rule(num_ranks=st.integers(1, 4))
    def resume(self, num_ranks: int) -> None:
        self._resume(num_ranks)

    @rule(how=SAVES, num_parts=st.integers(0, 3))
    def fall_asleep(self, how: dict, num_parts: int) -> None:
        version = self._next_version(how)
        before = self._before(version)
        work = version.save(self.history.storage)
        for _ in itertools.islice(work, num_parts):
            pass
        self._settle(version, before)
        self.sleepers.append((version, work, num_parts > 1 + version.num_ranks))
        self._resume(how["num_ranks"])

    @precondition(lambda self: self.sleepers)
    @rule(data=st.data())
    def wake_up(self, data: st.DataObject) -> None:
        version, work, has_committed = self.sleepers.pop(data.draw(st.integers(0, len(self.sleepers) - 1)))
        before = self._before(version)
        superseded = self._last_writer(version.folder) > version.attempt
        refused = False
        try:
            for _ in work:
                pass
        except (SupersededAttempt, DamagedCheckpoint, FileNotFoundError):
            refused = True
        if refused:
            assert self.history.on_disk(version.folder) == before[version.folder]
        assert refused or has_committed or not superseded, "a superseded attempt has committed"
        self._settle(version, before)
        self.history.check_latest()

    @precondition(lambda self: self.history.held)
    @rule(data=st.data(), kind=st.sampled_from(["flip", *sorted(ALONE), "swap", "replace", "duplicate"]), place=PLACES)
    def damage(self, data: st.DataObject, kind: str, place: float) -> None:
        held = [one for one in sorted(self.history.held) if self.history.storage.list(one)]
        if not held:
            return
        folders = st.sampled_from(held)
        file = self._any_file(data, data.draw(folders))
        if kind in ALONE:
            ALONE[kind](file, place, file)
        elif kind == "duplicate":
            duplicate(file, place, file)
        elif kind == "swap":
            swap(file, place, self._any_file(data, f"{STAGE}/{file.parent.name}"))
        else:
            replace(file, place, self._any_file(data, data.draw(folders)))
        self.history.check_latest()

    @precondition(lambda self: self.history.held)
    @rule()
    def meet_a_newer_manifest(self) -> None:
        newest = next(iter(self.history.good()), None)
        if newest is None:
            return
        file = self.history.path(newest, MANIFEST)
        whole = file.read_bytes()
        write_newer(file)
        with pytest.raises(RefusedInput, match="upgrade"):
            latest(self.history.storage, STAGE)
        file.write_bytes(whole)

    def _next_version(self, how: dict) -> Version:
        """With values of random bits: NaN with a payload, infinity and minus zero are values too."""
        generator = torch.Generator().manual_seed(next(self.seeds))
        tensors = {
            (slot, name): torch.randint(-(2**31), 2**31, shape, generator=generator).int().view(torch.float32)
            for slot in ("parameter", *sorted(how["slots"]))
            for name, shape in how["shapes"].items()
        }
        cuts = {name: how[name] for name in ("num_ranks", "max_file_bytes", "keep_latest")}
        return Version(step=self.position + how["num_steps"], attempt=self.attempt, tensors=tensors, **cuts)

    def _before(self, version: Version) -> dict[str, bytes | None]:
        """The manifest where it is going to save, and of every checkpoint that can be used."""
        return {one: self.history.on_disk(one) for one in (version.folder, *self.history.good())}

    def _settle(self, version: Version, before: dict[str, bytes | None]) -> None:
        """Take note of what a save that ended somehow has done, and hold it to what it may have done."""
        now = self.history.on_disk(version.folder)
        if now is not None and now != before[version.folder]:
            self.history.note_commit(version)
        self.history.note_removals()
        others = [one for one in before if one != version.folder]
        good = self.history.good()
        assert not others or others[0] in good or version.folder in good, "the last good one was removed"

    def _resume(self, num_ranks: int) -> None:
        self.attempt += 1
        folder = self.history.check_latest().folder
        self.position = 0
        if folder is not None:
            version = self.history.held[folder].version
            version.check_is_read(self.history.storage, num_ranks=num_ranks)
            self.position = version.step

    def _last_writer(self, folder: str) -> int:
        names = [one for one in self.history.storage.list(folder) if one.startswith("attempt-")]
        return max((int(one.split("-")[1]) for one in names), default=0)

    def _any_file(self, data: st.DataObject, folder: str) -> Path:
        return self.history.path(folder, data.draw(st.sampled_from(self.history.storage.list(folder))))


@pytest.mark.timeout(900)  # one program takes milliseconds, making a failing one short takes minutes
def test_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        LocalStorage, "_inside", lambda self, path, follow=True: self.root / path
    )  # half of the time, otherwise
    number = itertools.count()
    run_state_machine_as_test(
        lambda: Programs(tmp_path / f"{next(number)}"),
        settings=settings(
            max_examples=NUM_PROGRAMS,
            stateful_step_count=NUM_RULES,
            deadline=None,
            derandomize=True,
            database=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
