"""The driver's look for the wish to stop that `espalier stop` leaves in the run's folder.

A wish becomes the signals that a person at the driver's terminal would send: one to save and stop, two to stop at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from espalier.config.faults import RefusedInput
from espalier.stages.run_folder import RunFolder
from espalier.stages.stop_wish import StopWish, read_wish, remove_wish, write_wish

_LOOK_SECONDS = 1.0


@contextlib.contextmanager
def stop_on_wish(
    folder: RunFolder,
    submission: str | None,
    *,
    wished: threading.Event | None = None,
    signal_self: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Send this process SIGTERM when somebody wishes that it stops, for the time of the block.

    The caller holds the run's lock and handles the signal. A wish for an earlier driver is removed first.

    Args:
        submission: whose driver this process is; None when it was not submitted.
        wished: set once a person's wish came, which a scheduler must not undo by starting the run again.
        signal_self: replaces the sending of the signal.
    """
    wish = _known_wish(folder)
    if wish is not None and (submission is None or wish.submission != submission):
        with contextlib.suppress(OSError):
            remove_wish(folder)
    done = threading.Event()
    told = (done, wished or threading.Event(), signal_self or _terminate)
    watch = threading.Thread(target=_watch, args=(folder, submission, *told), name="stop-wish", daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()


def wish_to_stop(folder: RunFolder, submission: str | None) -> None:
    """Wish from within that the driver saves and stops; one more wish changes nothing."""
    wish = _known_wish(folder)
    if wish is None or wish.submission != submission:
        write_wish(folder, StopWish(submission=submission))


def _watch(
    folder: RunFolder,
    submission: str | None,
    done: threading.Event,
    wished: threading.Event,
    signal_self: Callable[[], None],
) -> None:
    num_sent = 0
    while True:
        wish = _known_wish(folder)
        if wish is not None and wish.submission == submission:
            if not wish.preempted:
                wished.set()
            if num_sent == 0:
                _hang_up() if wish.preempted else signal_self()
                num_sent = 1
            if wish.now and num_sent == 1:
                done.wait(_LOOK_SECONDS / 10)  # signals of one kind that wait are merged into one
                signal_self()
                num_sent = 2
        if done.wait(_LOOK_SECONDS):
            return


def _known_wish(folder: RunFolder) -> StopWish | None:
    """The wish; None also when the storage is away, or somebody has written something else there."""
    try:
        return read_wish(folder)
    except (OSError, RefusedInput):
        return None


def _hang_up() -> None:
    """Ask the driver to save as SIGTERM does, but never as a second signal: the scheduler may have sent one itself."""
    os.kill(os.getpid(), signal.SIGHUP)


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
