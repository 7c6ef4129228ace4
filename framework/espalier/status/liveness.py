"""Whether the driver of a run lives, from its last heartbeat and the run's lock. No clock is trusted alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from espalier.checkpoint.lock import Holder, found_holder
from espalier.config.faults import RefusedInput
from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import Submissions
from espalier.tracking.driver_file import BEAT_SECONDS, FILE, STALE_SECONDS, DriverRecord, read_driver

_WATCH_SECONDS = 1.5 * BEAT_SECONDS
_TOLD_SECONDS = 5.0  # clocks that differ by less are not worth a word


@dataclass(frozen=True)
class LastSign:
    """The last sign of life of a driver.

    Attributes:
        age_seconds: of the sign; negative when the clocks of this host and of the storage differ.
        is_alive: the sign is as fresh as that of a living driver, by every clock; or its process is seen here.
        is_doubtful: the clocks disagree on that. `is_renewed` finds out.
        is_certain: the process is one of this host, and was looked for.
        notes: on clocks that differ, for a person.
    """

    age_seconds: float
    host: str
    pid: int
    is_alive: bool
    is_doubtful: bool = False
    is_certain: bool = False
    notes: tuple[str, ...] = ()


def last_sign(folder: RunFolder, driver: DriverRecord | None, *, now: float) -> LastSign | None:
    """The last sign of the driver that has the run, or had it last; None when there is none.

    Args:
        driver: the content of driver.json; one that has ended gives no sign.
        now: unix seconds, by this host's clock.

    Raises:
        RefusedInput: something else stands in the place of the lock.
    """
    found = found_holder(folder.path / "lock")
    is_anothers = driver is not None and found is not None and _is_another(driver, found[0])
    if driver is not None and driver.exit_code is not None and not is_anothers:
        return None
    if driver is None or is_anothers:
        return None if found is None else _sign(found[0].host, found[0].pid, holder=found[0], stored=now - found[1])
    written = _changed(folder.path / FILE)
    times = [time for time in (written, found[1] if found else None) if time is not None]
    stored = now - max(times, default=driver.beat)
    skew = driver.beat - (written if written is not None else driver.beat)
    holder = found[0] if found else None
    return _sign(driver.host, driver.pid, holder=holder, stored=stored, clock=now - driver.beat, skew=skew)


def submission_sign(renewed: float, *, host: str, pid: int, now: float) -> LastSign:
    """The last sign of a submitted driver that has not taken the run up yet.

    Args:
        renewed: unix seconds, by the storage's clock.
    """
    return _sign(host, pid, holder=None, stored=now - renewed)


def is_renewed(
    folder: RunFolder, *, sleep: Callable[[float], None] = time.sleep, seconds: float = _WATCH_SECONDS
) -> bool:
    """Watch for longer than a living driver is silent, by this host's clock alone; returns whether there was a sign."""
    first = mark(folder)
    for _ in range(max(1, round(seconds))):
        sleep(1.0)
        if mark(folder) != first:
            return True
    return False


def mark(folder: RunFolder) -> tuple[object, ...]:
    """Something that is another one after every sign of life."""
    beat: object = None
    renewed: object = None
    begun: object = None
    with suppress(RefusedInput):
        driver = read_driver(folder)
        beat = driver and (driver.beat, driver.pid, driver.exit_code)
    with suppress(RefusedInput):
        renewed = found_holder(folder.path / "lock")
    with suppress(RefusedInput):
        submission = Submissions(folder).newest()
        begun = submission and (submission.id, Submissions(folder).renewed(submission))
    return beat, renewed, begun


def _sign(
    host: str, pid: int, *, holder: Holder | None, stored: float, clock: float | None = None, skew: float = 0.0
) -> LastSign:
    """Judge a sign.

    Args:
        stored: its age by the storage's time.
        clock: its age by the driver's time; None when it did not write that.
        skew: the driver's clock minus the storage's.
    """
    ages = (stored, stored if clock is None else clock)
    notes = []
    if stored < -_TOLD_SECONDS:
        notes.append(f"its last sign is {-stored:.0f} s in the future: this host's clock or the storage's is wrong")
    if abs(skew) > _TOLD_SECONDS:
        relation = "ahead of" if skew > 0 else "behind"
        notes.append(f"the clock of {host} is {abs(skew):.0f} s {relation} the storage's")
    if holder is not None and holder.is_here:
        is_alive = not holder.is_gone(silent_seconds=stored)
        return LastSign(stored, host, pid, is_alive, is_certain=True, notes=tuple(notes))
    is_alive = all(abs(age) <= STALE_SECONDS for age in ages)
    is_doubtful = not is_alive and not all(age > STALE_SECONDS for age in ages)
    age = max(ages) if is_doubtful else stored
    return LastSign(age, host, pid, is_alive, is_doubtful, notes=tuple(notes))


def _is_another(driver: DriverRecord, holder: Holder) -> bool:
    """Whether the lock is of another process than the heartbeat; of a lock that was cut off nothing is known.

    In containers another process may have the same number and host; a process takes its lock before it starts to beat.
    """
    same = (driver.pid, driver.host) == (holder.pid, holder.host) and holder.since <= driver.started
    return bool(holder.token) and not same


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None
