"""The fuzzer in small: it tells a crash, a hang and a change from what is right; the whole of it is slow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from faults.fuzzing.mutations import Mutation, mutations
from faults.fuzzing.play import play, tree
from faults.fuzzing.watched import Case, Journal, watched

FUZZ = Path(__file__).with_name("fuzz.py")
ONE = Case("job file", "plan job.yaml", "job.yaml", "cut at 3", "")


def test_a_hang_and_a_crash_are_the_faults_of_the_case_under_way(tmp_path: Path) -> None:
    def hangs(journal: Journal) -> None:
        journal.begin(ONE)
        journal.end(ONE)
        journal.begin(ONE)
        time.sleep(60)

    def dies(journal: Journal) -> None:
        journal.begin(ONE)
        os.kill(os.getpid(), signal.SIGKILL)

    first, second = watched(hangs, tmp_path / "journal", patience_seconds=0.5)
    assert (first.fault, second.fault) == ("", "a hang of 0 s")
    (died,) = watched(dies, tmp_path / "journal", patience_seconds=5)
    assert died.fault == "the process ended with -9"


@pytest.mark.parametrize(("kind", "good"), [("json", b'{"a": [1]}'), ("csv", b"a,b\n1,2\n"), ("bytes", b"")])
def test_every_mutation_can_be_done_to_a_file(tmp_path: Path, kind: str, good: bytes) -> None:
    outside = tmp_path / "outside"
    outside.write_text("canary")
    seen = set()

    @settings(max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(mutations(good, kind, outside=outside))  # type: ignore[arg-type]
    def each(mutation: Mutation) -> None:
        path = tmp_path / f"file-{len(seen)}"
        path.write_bytes(good)
        mutation.apply(path)
        seen.add(mutation.name)

    each()
    assert len(seen) > 20
    assert outside.read_text() == "canary"


def test_a_command_that_raises_is_told_from_one_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job.yaml").write_text("name: [")
    assert play(("validate", str(tmp_path / "job.yaml"))).fault == ""
    monkeypatch.setattr("faults.fuzzing.play.main", lambda: [][0])
    assert play(("validate", "job.yaml")).fault.startswith("IndexError in ")


def test_a_tree_shows_each_change(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = tree(tmp_path)
    (tmp_path / "a").write_text("22")
    (tmp_path / "b").mkdir()
    after = tree(tmp_path)
    assert {name for name in after if after[name] != before.get(name)} == {"a", "b"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_spoiled_files_are_refused_by_every_command(tmp_path: Path) -> None:
    command = [sys.executable, str(FUZZ), "--cases", "2000", "--runs", "30", "--seed", "7", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
