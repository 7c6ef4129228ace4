"""What a signal means to the process that drives a run: a wish to stop, and the second one an end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

Handler = Callable[[int, FrameType | None], None]

_WISHES = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def heeding(handler: Handler) -> Iterator[None]:
    """Call `handler` on SIGTERM, Ctrl-C and a hang-up inside.

    A hang-up that was ignored from the start, as under `nohup`, stays ignored. After one, what goes to the terminal
    goes nowhere: nobody reads it, and writing to one that is gone fails.
    """

    terminals = [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]  # one that is gone no longer says so

    def heed(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _say_no_more(terminals)
        handler(number, frame)

    before: Mapping[int, object] = {number: signal.getsignal(number) for number in _WISHES}
    for number, old in before.items():
        if not (number == signal.SIGHUP and old == signal.SIG_IGN):
            signal.signal(number, heed)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)  # type: ignore[arg-type]


@contextlib.contextmanager
def stop_wish(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """Set by the first signal: a wish to stop at the end of a step. A second SIGTERM or Ctrl-C ends the run where it
    is. A hang-up never does: it comes twice when a shell dies, and right after SIGTERM when a session is ended.

    Args:
        say: tells the person who waits.
    """
    stop = threading.Event()
    asked = 0

    def heed(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += number != signal.SIGHUP
        if asked > 1:
            raise KeyboardInterrupt
        if not stop.is_set():
            stop.set()
            say("saving at the end of this step, then stopping; once more to stop at once")

    with heeding(heed):
        yield stop


def _say_no_more(terminals: list[int]) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in terminals:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
