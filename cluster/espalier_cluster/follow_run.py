"""Follow a run's records while it is driven: one thread for the terminal, and one for each tracker."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from rich.console import Console

from espalier.planning.prepare import PreparedJob
from espalier.stages.run_folder import RunFolder
from espalier.tracking.events import EventLog
from espalier.tracking.follow import Follower
from espalier.tracking.mirror import Access, Mirror, mirrors
from espalier.tracking.progress import open_display
from espalier_cluster.outcome import failure_reported

_POLL_SECONDS = 0.5
_MIRROR_SECONDS = 90.0  # how long a finished run waits for its trackers


@contextlib.contextmanager
def followed(
    prepared: PreparedJob, folder: RunFolder, events: EventLog, console: Console, access: Access
) -> Iterator[list[str]]:
    """Follow the run's records in one thread for the terminal and one for each tracker, so that none blocks another.

    Yields:
        The trackers' advice for the user; filled after the block.
    """
    done, advice = threading.Event(), list[str]()
    show = threading.Thread(target=_show, args=(prepared, folder, console, done), daemon=True)
    threads = [show]
    for title, opened in mirrors(folder.path, prepared.job, events, access=access):
        mirror = partial(_mirror, opened, folder, console, done, advice, title=title)
        threads.append(threading.Thread(target=mirror, daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield advice
    finally:
        done.set()
        show.join()
        deadline = time.monotonic() + _MIRROR_SECONDS
        for thread in threads[1:]:
            thread.join(max(0.0, deadline - time.monotonic()))


def _show(prepared: PreparedJob, folder: RunFolder, console: Console, done: threading.Event) -> None:
    follower = Follower(folder.path)
    with failure_reported(console, "the run goes on without being shown here"):
        earlier = follower.poll()
        with open_display([stage.name for stage in prepared.plan.stages], console) as display:
            display.show(replace(earlier, events=tuple(one for one in earlier.events if one.kind == "finished")))
            _poll_until(done, lambda: display.show(follower.poll()))


def _mirror(
    opened: Callable[[], Mirror],
    folder: RunFolder,
    console: Console,
    done: threading.Event,
    advice: list[str],
    *,
    title: str,
) -> None:
    follower = Follower(folder.path)
    mirror = opened()
    with contextlib.closing(mirror), failure_reported(console, f"the run goes on without being shown in {title}"):
        _poll_until(done, lambda: mirror.receive(follower.poll()))
    if line := mirror.advice():
        advice.append(line)


def _poll_until(done: threading.Event, poll: Callable[[], None]) -> None:
    """Call `poll` at intervals until `done` is set, and once more after that."""
    while not done.wait(_POLL_SECONDS):
        poll()
    poll()
