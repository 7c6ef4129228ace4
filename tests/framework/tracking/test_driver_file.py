"""The driver's heartbeat: at bounded intervals, never without the right to write, no failure of the run."""

from __future__ import annotations

import os
import time
from pathlib import Path

from espalier.stages.run_folder import RunFolder
from espalier.tracking.driver_file import FILE, DriverFile, DriverRecord, read_driver


def known(folder: RunFolder) -> DriverRecord:
    found = read_driver(folder)
    assert found is not None
    return found


def wait_until(condition: object) -> None:
    deadline = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_beats_tells_orders_at_once_and_ends(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with DriverFile(folder, DriverRecord.of_this_process(options=("--in-process",)), beat_seconds=0.05) as file:
        first = known(folder)
        assert (first.pid, first.exit_code, first.options) == (os.getpid(), None, ("--in-process",))
        wait_until(lambda: known(folder).beat > first.beat)
        file.order("heal", 4)
        assert (known(folder).stage, known(folder).attempt) == ("heal", 4)
        file.wait_for("room: run big holds 8 GPUs")
        wait_until(lambda: known(folder).waits_for == "room: run big holds 8 GPUs")
        file.is_stopping = lambda: True
        wait_until(lambda: known(folder).is_stopping)
        file.end(75, "x" * 5000)
        file.end(0, "a later one")
    last = (tmp_path / FILE).read_bytes()
    assert known(folder).exit_code == 75 and known(folder).reason == "x" * 1000 and known(folder).waits_for == ""
    time.sleep(0.15)
    assert (tmp_path / FILE).read_bytes() == last


def test_between_two_beats_nothing_is_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with DriverFile(folder, DriverRecord.of_this_process()) as file:
        (tmp_path / FILE).unlink()
        file.wait_for("")
        time.sleep(0.1)
        assert not (tmp_path / FILE).exists()


def test_without_the_lock_nothing_is_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with DriverFile(folder, DriverRecord.of_this_process(), may_write=lambda: False) as file:
        file.order("heal", 1)
        file.end(0, "")
    assert not (tmp_path / FILE).exists()


def test_a_storage_that_takes_no_heartbeat_ends_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    (tmp_path / "run" / FILE / "theirs").mkdir(parents=True)
    with DriverFile(folder, DriverRecord.of_this_process(), beat_seconds=0.01) as file:
        time.sleep(0.05)
        file.order("heal", 1)
    assert (tmp_path / "run" / FILE / "theirs").is_dir()
    with DriverFile(RunFolder(tmp_path / "gone"), DriverRecord.of_this_process()) as file:
        file.end(0, "")
    assert not (tmp_path / "gone").exists(), "a removed folder is never made again"
