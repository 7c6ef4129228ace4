"""Signal handling of the driver: the first signal asks the run to stop after a step, a second one ends it at once."""

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
def handle_signals(handler: Handler) -> Iterator[None]:
    """Call `handler` on SIGTERM, SIGINT and SIGHUP inside the block.

    A SIGHUP that was ignored at the start, as under `nohup`, stays ignored. After a SIGHUP, output to the terminal is
    discarded, because writing to a closed terminal fails.
    """

    terminals = [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]  # isatty is false after the hang-up

    def on_signal(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _discard_output(terminals)
        handler(number, frame)

    before: Mapping[int, object] = {number: signal.getsignal(number) for number in _WISHES}
    for number, old in before.items():
        if not (number == signal.SIGHUP and old == signal.SIG_IGN):
            signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)  # type: ignore[arg-type]


@contextlib.contextmanager
def stop_on_signal(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """Yield an event that the first signal sets: the run has to stop at the end of a step.

    A second SIGTERM or SIGINT raises `KeyboardInterrupt`. SIGHUP never does: it is sent twice when a shell dies, and
    right after SIGTERM when a session is ended.

    Args:
        say: prints a message for the user.
    """
    stop = threading.Event()
    asked = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += number != signal.SIGHUP
        if asked > 1:
            raise KeyboardInterrupt
        if not stop.is_set():
            stop.set()
            say("saving at the end of this step, then stopping; once more to stop at once")

    with handle_signals(on_signal):
        yield stop


def _discard_output(terminals: list[int]) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in terminals:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
