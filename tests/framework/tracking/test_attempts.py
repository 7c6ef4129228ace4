"""The record of attempts: what is read of it, also when it was cut off or changed."""

from __future__ import annotations

from pathlib import Path

from espalier.tracking import jsonl
from espalier.tracking.attempts import AttemptEntry, AttemptLog, read_attempts


def test_attempts_have_their_hosts_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "records" / "attempts.jsonl"
    log = AttemptLog(path)
    log.placed({"early": 1})  # before any order
    log.ordered("heal", 3)
    log.placed({"b": 2, "a": 3})
    log.ended("preempted", "taken away" * 100)
    log.ended("error", "twice")
    log.ordered("heal", 4)
    first, second = read_attempts(path)
    assert (first.number, first.stage, dict(first.hosts), first.num_workers) == (3, "heal", {"a": 3, "b": 2}, 5)
    assert first.end == "preempted" and len(first.message) == 500 and first.ended is not None
    assert (second.number, second.ended, second.hosts) == (4, None, {})


def test_lines_that_cannot_be_read_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "attempts.jsonl"
    log = AttemptLog(path)
    log.ordered("heal", 1)
    with path.open("ab") as file:
        file.write(b'{"attempt": -1, "stage": "../x", "time": 1, "state": "ordered"}\nnull\n{"attempt": 2, "sta')
    log = AttemptLog(path)
    log.ordered("heal", 3)
    assert [attempt.number for attempt in read_attempts(path)] == [1, 3]
    assert read_attempts(tmp_path / "none") == []


def test_of_a_long_record_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "attempts.jsonl"
    log = AttemptLog(path)
    for attempt in range(1, 40):
        log.ordered("heal", attempt)
    size = path.stat().st_size
    for max_bytes in (200, 201, 250, 300):
        found = jsonl.read_last(path, AttemptEntry, max_bytes=max_bytes)
        assert [entry.attempt for entry in found] == list(range(40 - len(found), 40)) and 1 <= len(found) <= 4
    assert len(jsonl.read_last(path, AttemptEntry, max_bytes=size)) == 39
    assert len(jsonl.read_last(path, AttemptEntry, max_bytes=size - 1)) == 38
