"""The table: how many kills of each kind were made, and whether all of them came to the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from faults.ground import KINDS, LEVELS
from faults.moments import COLUMNS
from faults.play import Kill, Played

_COLUMNS = (*COLUMNS, "total")
_SHOWN = 5


def table(played: Sequence[Played]) -> str:
    """Rows zero_level x stage kind. A kill counts as equal when its run ended as the undisturbed one did.

    Seconds are of the attempts that ended in a kill of the row.
    """
    cells: dict[tuple[str, ...], _Cell] = defaultdict(_Cell)
    for one in played:
        for kill in one.kills:
            level, stage, column = kill.target.level, kill.target.moment.stage, kill.target.moment.column
            for row in ((level, KINDS[stage]), ("all", "")):
                cells[*row, column].add(kill, is_equal=not one.faults)
                cells[*row, "total"].add(kill, is_equal=not one.faults)
    lines = [
        f"{'zero_level':<12}{'stage kind':<12}" + "".join(f"{column:>16}" for column in _COLUMNS) + f"{'seconds':>9}"
    ]
    for level, kind in [*((level, kind) for level in LEVELS for kind in KINDS.values()), ("all", "")]:
        if (level, kind, "total") in cells:
            row = "".join(f"{cells.get((level, kind, column), '-')!s:>16}" for column in _COLUMNS)
            lines.append(f"{level:<12}{kind:<12}{row}{cells[level, kind, 'total'].seconds:>9.0f}")
    return "\n".join(lines)


def summary(played: Sequence[Played]) -> str:
    """One line for each level: kills, runs, and what they took."""
    lines = []
    for level in LEVELS:
        of_level = [one for one in played if level_of(one) == level]
        if of_level:
            kills, seconds = sum(len(one.kills) for one in of_level), sum(one.seconds for one in of_level)
            lines.append(f"{level}: {kills} kills in {len(of_level)} runs, {seconds:.0f} s of runs")
    return "\n".join(lines)


def level_of(played: Played) -> str:
    """The level that a run was of."""
    return played.folder.name.split("-")[0]


def faults(played: Sequence[Played]) -> str:
    """For each run that differs: its kills, what differs first, where it lies."""
    lines = []
    for one in played:
        if one.faults:
            lines += [f"DIFFERS: level {level_of(one)}, {one.folder}"]
            lines += [f"  killed: rank {kill.target.rank}, {kill.where}" for kill in one.kills]
            lines += [f"  {fault}" for fault in one.faults[:_SHOWN]]
            lines += [f"  and {len(one.faults) - _SHOWN} more"] if len(one.faults) > _SHOWN else []
    return "\n".join(lines)


@dataclass
class _Cell:
    made: int = 0
    wrong: int = 0
    seconds: float = 0.0

    def add(self, kill: Kill, *, is_equal: bool) -> None:
        self.made += 1
        self.wrong += not is_equal
        self.seconds += kill.seconds

    def __str__(self) -> str:
        return f"{self.made}, {self.wrong} DIFFER" if self.wrong else f"{self.made} equal"
