"""The driver's log in the run's folder, and reading it: every line once, bounded, without secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs_stand_in import Clock

from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import Submission, Submissions
from espalier.storage.local import LocalStorage
from espalier_cluster.driver_log import LogParts, parts
from espalier_cluster.log_reader import MISSING, DriverLines, LogFile, RunEnd, Waiting, follow
from espalier_cluster.secret_text import secret_values, without_secrets

PRINT = """
import os, sys
from pathlib import Path
from espalier.stages.run_folder import RunFolder
from espalier_cluster.driver_log import mirrored
with mirrored(RunFolder(Path(sys.argv[1]))):
    print("key is", os.environ["WANDB_API_KEY"])
    os.system("echo a child knows $WANDB_API_KEY")
    sys.stderr.write("no end " + "hf_" + "x" * 36)
print("after")
"""


def numbered(first: int, last: int) -> list[bytes]:
    return [b"line %d" % number for number in range(first, last)]


def text(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def waiting(clock: Clock) -> Waiting:
    return Waiting(sleep=clock.sleep, clock=clock)


def test_parts_are_bounded_in_size_and_number(tmp_path: Path) -> None:
    log = LogParts(RunFolder(tmp_path), part_bytes=40, num_parts=3)
    for line in numbered(100, 130):
        log.write(line + b"\n")
    kept = parts(LocalStorage(tmp_path))
    assert len(kept) == 3 and all(file.stat().st_size <= 40 for file in (tmp_path / "logs" / "driver").iterdir())
    assert list(DriverLines(RunFolder(tmp_path)).new_lines())[-1] == b"line 129"


def test_a_line_longer_than_a_part_is_written_once(tmp_path: Path) -> None:
    LogParts(RunFolder(tmp_path), part_bytes=10).write(b"x" * 30 + b"\nshort\n")
    assert list(DriverLines(RunFolder(tmp_path)).new_lines()) == [b"x" * 30, b"short"]


def test_a_reader_gets_every_line_once_while_parts_come_and_another_driver_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    reader, read = DriverLines(folder), []
    for first in (0, 20):  # two drivers
        log = LogParts(folder, part_bytes=30)
        for line in numbered(first, first + 20):
            log.write(line + b"\n")
            read += list(reader.new_lines())
    assert read == numbered(0, 40)


def test_lines_that_were_removed_before_they_were_read_are_mentioned(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    reader, log = DriverLines(folder), LogParts(folder, part_bytes=10, num_parts=2)
    log.write(b"line 0\n")
    assert list(reader.new_lines()) == [b"line 0"]
    for line in numbered(1, 9):
        log.write(line + b"\n")
    assert list(reader.new_lines()) == [MISSING, *numbered(7, 9)]
    assert list(reader.new_lines()) == []


def test_what_the_storage_does_not_take_is_written_later_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, original = LogParts(RunFolder(tmp_path)), LocalStorage.append
    log.write(b"line 0\n")

    def write_half(self: LocalStorage, path: str, data: bytes) -> None:
        original(self, path, data[: len(data) // 2])
        raise OSError(28, "full")

    monkeypatch.setattr(LocalStorage, "append", write_half)
    log.write(b"line 1\nline 2\n")
    monkeypatch.setattr(LocalStorage, "append", original)
    log.write(b"line 3\n")
    assert list(DriverLines(RunFolder(tmp_path)).new_lines()) == numbered(0, 4)


def test_following_goes_on_where_it_was_when_the_storage_was_away(tmp_path: Path) -> None:
    """Away in three ways: a stale handle, an empty mount point, no folder at all."""
    folder, away = RunFolder(tmp_path / "run"), tmp_path / "away"
    log, written, was_ended = LogParts(folder, part_bytes=50), 0, []

    def pass_time(now: float) -> None:
        nonlocal written
        if away.exists():
            if folder.path.exists():
                folder.path.rmdir()
            away.rename(folder.path)
        log.write(text(numbered(written, written + 7)))
        written += 7
        if written in (14, 28, 42):
            folder.path.rename(away)
            if written == 28:
                folder.path.mkdir()
        if written == 70:
            was_ended.append(True)

    clock = Clock(pass_time)
    lines = DriverLines(folder)
    calls = 0

    def cut() -> Iterator[bytes]:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise OSError(116, "Stale file handle")
        yield from lines.new_lines()

    assert list(follow(cut, lambda: bool(was_ended), waiting(clock))) == numbered(0, 70)


def test_a_line_counts_once_it_has_its_end(tmp_path: Path) -> None:
    file = tmp_path / "worker-0.log"
    file.write_bytes(b"whole\nha")
    log = LogFile(file)
    assert list(log.new_lines()) == [b"whole"]
    file.write_bytes(b"whole\nhalf\n")
    assert list(log.new_lines()) == [b"half"]


def test_no_secret_reaches_the_log_or_what_it_is_copied_from(tmp_path: Path) -> None:
    key = "canary-0123456789"
    environment = os.environ | {"WANDB_API_KEY": key, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", PRINT, str(tmp_path)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    kept = (tmp_path / "logs" / "driver" / "000001.log").read_text()
    assert kept == "key is ***\na child knows ***\nno end ***\n"
    assert said.stdout == "key is ***\na child knows ***\nno end ***after\n" and not said.stderr


def test_a_secret_in_another_one_leaves_nothing_of_either(tmp_path: Path) -> None:
    variables = {"A_TOKEN": "abcdefgh", "B_KEY": "abcdefgh12345678", "HOME_KEYS": "short", "RAY_AUTH_TOKEN_PATH": "/x"}
    assert without_secrets(b"of abcdefgh12345678, short.", secret_values(variables)) == b"of ***, short."


@pytest.fixture
def submitted(tmp_path: Path) -> tuple[Submissions, Submission]:
    submissions = Submissions(RunFolder(tmp_path))
    versions = {"ray": "2.60.0"}
    fields = {"id": "espalier-slim-1-00000000", "number": 1, "job_file": f"job-{'0' * 32}.json"}
    found = Submission(**fields, session="s", address="a", submitted=1.0, versions=versions)  # type: ignore[arg-type]
    (tmp_path / "submits").mkdir()
    return submissions, found


def test_a_follow_ends_with_the_driver_and_not_before(submitted: tuple[Submissions, Submission]) -> None:
    submissions, submission = submitted
    clock = Clock()
    end = RunEnd(submissions.run, submission, waiting=waiting(clock))
    assert not end.is_over()
    submissions.begin(submission, host="h", pid=1)
    begun = submissions.run.path / "submits" / "000001.begun.json"
    for renewed in range(10, 5000, 10):
        os.utime(begun, (renewed, renewed))
        clock.sleep(10)
        assert not end.is_over(), "it reads its data, for as long as that takes"
    lock = submissions.run.path / "lock"
    lock.touch()
    assert not end.is_over()
    for renewed in range(10, 200, 10):
        os.utime(lock, (renewed, renewed))
        clock.sleep(10)
        assert not end.is_over()
    clock.sleep(100)
    assert end.is_over(), "the lock is not renewed: the driver was killed"
    os.utime(lock, (1000, 1000))
    assert not end.is_over()
    submissions.end(submission, exit_code=0, reason="")
    assert end.is_over()


def test_a_driver_that_is_killed_before_it_has_the_lock_ends_a_follow(
    submitted: tuple[Submissions, Submission],
) -> None:
    submissions, submission = submitted
    clock = Clock()
    end = RunEnd(submissions.run, submission, waiting=waiting(clock))
    submissions.begin(submission, host="h", pid=1)
    assert not end.is_over()
    clock.sleep(60)
    assert not end.is_over()
    clock.sleep(60)
    assert end.is_over()


def test_a_submission_that_nothing_takes_up_is_given_up(submitted: tuple[Submissions, Submission]) -> None:
    clock = Clock()
    end = RunEnd(submitted[0].run, submitted[1], waiting=waiting(clock))
    clock.sleep(800)
    assert not end.is_over()
    clock.sleep(200)
    assert end.is_over()
