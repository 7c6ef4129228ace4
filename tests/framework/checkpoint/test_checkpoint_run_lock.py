"""One run at a time: a living holder is respected, a dead one is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from espalier.checkpoint import lock
from espalier.checkpoint.lock import Holder, RunLock
from espalier.config.faults import RefusedInput

_HOLD = """
import sys, time
from pathlib import Path
from espalier.checkpoint.lock import RunLock
with RunLock(Path(sys.argv[1]), job="other"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.lock"


def _plant(path: Path, *, silent_seconds: float = 0.0, **changes: object) -> None:
    path.write_text(json.dumps(asdict(replace(Holder.this_process("planted"), **changes))))
    then = time.time() - silent_seconds
    os.utime(path, (then, then))


def test_it_is_held_inside_and_gone_after(path: Path) -> None:
    with RunLock(path, job="one") as held:
        assert held.is_held()
        assert path.exists()
    assert list(path.parent.iterdir()) == []
    assert not any(thread.name == "run-lock" for thread in threading.enumerate())
    with RunLock(path, job="two"):
        pass


def test_it_is_let_go_when_the_run_fails(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunLock(path, job="one"):
        1 / 0  # noqa: B018
    assert not path.exists()


def test_a_living_holder_is_named_and_a_killed_one_is_replaced(path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RefusedInput) as caught, RunLock(path, job="mine"):
            pass
        assert all(part in str(caught.value) for part in (f"process {process.pid}", os.uname().nodename, "`other`"))
    finally:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with RunLock(path, job="mine") as held:  # a zombie as yet: nobody has waited for it
        assert held.is_held()
    process.wait()
    process.stdout.close()


def test_a_stopped_process_of_this_host_is_respected_for_ever(path: Path) -> None:
    _plant(path, silent_seconds=1000.0)
    with pytest.raises(RefusedInput), RunLock(path, job="mine"):
        pass


def test_a_process_number_used_again_is_not_the_holder(path: Path) -> None:
    _plant(path, silent_seconds=20.0, process_started=1.0)
    with RunLock(path, job="mine") as held:
        assert held.is_held()


def test_a_start_that_moved_with_the_clock_is_no_proof_of_death(path: Path) -> None:
    _plant(path, silent_seconds=2.0, process_started=1.0)
    with pytest.raises(RefusedInput), RunLock(path, job="mine"):
        pass


@pytest.mark.parametrize("silent_seconds", [50.0, 70.0])
def test_a_holder_on_another_host_is_dead_after_a_minute_of_silence(path: Path, silent_seconds: float) -> None:
    _plant(path, silent_seconds=silent_seconds, place="elsewhere", host="node-7", pid=2**22 + 1)
    if silent_seconds < 60:
        with pytest.raises(RefusedInput, match="node-7"), RunLock(path, job="mine"):
            pass
    else:
        with RunLock(path, job="mine") as held:
            assert held.is_held()
    assert not [one for one in path.parent.iterdir() if one != path]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"pid": 1}',
        "[" * 10_000,
        json.dumps(asdict(Holder("t", "h", "p", 10**30, 0.0, 0.0, "j"))),
        json.dumps(asdict(Holder("t", "h", "p", -1, 0.0, 1e300, "j"))),
        json.dumps(asdict(Holder("t", "h", "p", 1, float("nan"), 0.0, "j"))),
    ],
)
def test_a_lock_whose_maker_died_over_it_is_replaced_when_silent(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(RefusedInput, match="unknown"), RunLock(path, job="mine"):
        pass
    os.utime(path, (0, 0))
    with RunLock(path, job="mine") as held:
        assert held.is_held()


def test_it_is_renewed_while_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_RENEW_SECONDS", 0.01)
    with RunLock(path, job="one"):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 5.0
        while path.stat().st_mtime < 1000 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 1000


def test_a_lock_lost_to_another_is_neither_renewed_nor_removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_RENEW_SECONDS", 0.01)
    told: list[str] = []
    with RunLock(path, job="one") as held:
        held.on_lost = told.append
        _plant(path, silent_seconds=10.0)
        time.sleep(0.1)
        assert not held.is_held() and "another process" in told[0] and len(told) == 1
        assert time.time() - path.stat().st_mtime > 5.0
    assert path.exists()


def test_of_several_that_find_a_dead_holder_one_gets_it(path: Path) -> None:
    for _ in range(20):
        _plant(path, silent_seconds=1000.0, place="elsewhere")
        barrier, release = threading.Barrier(4), threading.Event()
        results: list[str] = []

        def contend(barrier=barrier, release=release, results=results) -> None:
            barrier.wait()
            try:
                with RunLock(path, job="mine"):
                    results.append("held")
                    release.wait(10.0)
            except RefusedInput:
                results.append("refused")

        threads = [threading.Thread(target=contend) for _ in range(4)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 10.0
        while len(results) < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
        release.set()
        for thread in threads:
            thread.join()
        assert sorted(results) == ["held", "refused", "refused", "refused"]


def test_a_holder_whose_process_is_gone_is_replaced_at_once(path: Path) -> None:
    _plant(path, pid=2**22 + 1)  # above the largest process number
    with RunLock(path, job="mine") as held:
        assert held.is_held()


def test_a_lock_is_only_taken_by_who_claimed_that_very_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _plant(path, silent_seconds=1000.0, place="elsewhere")
    claimed: list[int] = []

    def replaced_while_waiting(file, operation: int) -> None:
        claimed.append(os.fstat(file.fileno()).st_ino)
        if len(claimed) == 1:
            path.rename(path.with_name("old"))  # kept, so that its number is not used again
            _plant(path, silent_seconds=1000.0, place="elsewhere")

    monkeypatch.setattr(lock.fcntl, "flock", replaced_while_waiting)
    with RunLock(path, job="mine") as held:
        assert held.is_held()
    assert len(set(claimed)) == 2


def _dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def _link_to_somebodys_file(path: Path) -> None:
    path.with_name("thesis").write_text("long")
    path.symlink_to(path.with_name("thesis"))


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("plant", [_dangling_link, _link_to_somebodys_file, _pipe, _folder])
def test_what_is_no_file_in_a_locks_place_is_refused_and_stays(path: Path, plant) -> None:
    plant(path)
    before = path.lstat()
    with pytest.raises(RefusedInput, match="remove it"), RunLock(path, job="mine"):
        pass
    assert path.lstat() == before


def test_a_lock_of_a_clock_that_is_ahead_is_counted_from_when_it_was_seen(path: Path) -> None:
    _plant(path, silent_seconds=-86400.0, place="elsewhere", host="node-7")
    with pytest.raises(RefusedInput, match="60 seconds"), RunLock(path, job="mine"):
        pass
    assert abs(time.time() - path.stat().st_mtime) < 10
    os.utime(path, (time.time() - 61, time.time() - 61))
    with RunLock(path, job="mine") as held:
        assert held.is_held()


def test_a_lock_of_a_newer_espalier_is_left_alone(path: Path) -> None:
    path.write_text(json.dumps({"schema_version": 2, "owner": "x"}))
    os.utime(path, (0, 0))
    with pytest.raises(RefusedInput, match="newer espalier"), RunLock(path, job="mine"):
        pass


def test_a_lock_that_was_removed_by_hand_is_made_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_RENEW_SECONDS", 0.01)
    told: list[str] = []
    with RunLock(path, job="one") as held:
        held.on_lost = told.append
        path.unlink()
        deadline = time.monotonic() + 5.0
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert held.is_held() and held.lost is None and told == []


def test_a_folder_that_is_gone_is_told_truly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_RENEW_SECONDS", 0.01)
    told: list[str] = []
    folder = tmp_path / "run"
    folder.mkdir()
    with RunLock(folder / "lock", job="one") as held:
        held.on_lost = told.append
        folder.rename(tmp_path / "gone")
        deadline = time.monotonic() + 5.0
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
        assert told == [held.lost] and "is gone" in told[0]
    assert not folder.exists()
