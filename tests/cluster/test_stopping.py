"""What signals do to a run, and that a closed terminal does not keep it from saving."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from espalier_cluster.stopping import handle_signals, stop_on_signal

HUNG_UP = """
import os, signal, sys
from espalier_cluster.stopping import stop_on_signal
with stop_on_signal(print) as stop:
    os.write(1, b"up")
    stop.wait(20)
print("all is saved", flush=True)
open(sys.argv[1], "w").write(f"stopped: {stop.is_set()}")
"""


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def test_the_second_signal_ends_the_run_unless_it_is_a_hang_up() -> None:
    said: list[str] = []
    with stop_on_signal(said.append) as stop:
        try:
            for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
                send(number)
        except KeyboardInterrupt:
            pytest.fail("one of them ended the run at once")
        assert stop.is_set() and len(said) == 1
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_each_signal_asks_to_stop_and_its_handler_is_restored(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signal(lambda text: None) as stop:
        send(number)
        assert stop.is_set()
    assert signal.getsignal(number) == before


def test_a_hang_up_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handle_signals(lambda number, frame: pytest.fail("nohup was ignored")):
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_whose_terminal_is_closed_finishes(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", HUNG_UP, str(tmp_path / "end")], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    assert os.read(ours, 2) == b"up"
    os.close(ours)
    child.send_signal(signal.SIGHUP)
    assert child.wait(20) == 0 and (tmp_path / "end").read_text() == "stopped: True"
