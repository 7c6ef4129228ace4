"""Which kills are made: spread over levels and kinds of points, and the rest drawn by seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from espalier.config.training import ZeroLevel
from faults.attempt import RANKS, Shot
from faults.ground import KINDS
from faults.moments import BOUNDARY, COLUMNS, MID_STAGE, SAVE, SURGERY, Moment

_SHARES: dict[str, dict[str, int]] = {
    MID_STAGE: {"parent": 1, "slim": 1, "heal": 2, "tune": 2, "score": 1, "out": 1},
    BOUNDARY: dict.fromkeys(KINDS, 1),
    SURGERY: {"slim": 6},
    SAVE: {"parent": 1, "heal": 3, "tune": 3, "out": 1},
}
"""Column -> stage -> how much of a level's kills; a stage that has no such moment is not in it."""

_GRACES = (0.0, 0.0, 0.05, 0.3)


@dataclass(frozen=True)
class Target:
    """A kill to be made.

    Attributes:
        fraction: of the moments of its kind that an undisturbed run has: at which one.
        grace_seconds: how long the other rank goes on.
    """

    level: ZeroLevel
    moment: Moment
    rank: int
    fraction: float
    grace_seconds: float

    def shot(self, counts: Sequence[Counter[Moment]]) -> Shot:
        """Where that is, given what each rank passed in an undisturbed run."""
        ordinal = int(self.fraction * counts[self.rank][self.moment])
        return Shot(self.moment, self.rank, ordinal, self.grace_seconds)

    def sooner(self) -> Target:
        """For a run in which that many moments did not come."""
        return replace(self, fraction=self.fraction / 2)


def draw_targets(
    counts: dict[ZeroLevel, tuple[Counter[Moment], ...]], *, kills: int, seed: int
) -> dict[ZeroLevel, list[Target]]:
    """The kills of each level, in the order of drawing."""
    draw = random.Random(seed)
    targets: dict[ZeroLevel, list[Target]] = {level: [] for level in counts}
    for number, cell in enumerate(_cells(draw, kills=kills, num_levels=len(counts))):
        level = list(counts)[number % len(counts)]
        targets[level].append(_draw_target(draw, level, counts[level], cell))
    return targets


def group(targets: Sequence[Target], *, seed: int) -> list[list[Target]]:
    """One to three kills for each run, in the order in which a run comes to them."""
    draw, groups, left = random.Random(seed), [], list(targets)
    while left:
        size = draw.choice((1, 2, 3))
        groups.append(sorted(left[:size], key=_place))
        left = left[size:]
    return groups


def _cells(draw: random.Random, *, kills: int, num_levels: int) -> list[tuple[str, str]]:
    """(column, stage) of each kill; each level in turn gets the next of its own shuffled deck, column by column."""
    decks = [_deck(draw) for _ in range(num_levels)]
    return [decks[number % num_levels][number // num_levels % len(decks[0])] for number in range(kills)]


def _deck(draw: random.Random) -> list[tuple[str, str]]:
    """All cells by their shares, the columns mixed so that any first few kills are of different ones."""
    piles = {
        column: [(column, stage) for stage, n in shares.items() for _ in range(n)] for column, shares in _SHARES.items()
    }
    placed = []
    for pile in piles.values():
        draw.shuffle(pile)
        offset = draw.random()
        placed += [((index + offset) / len(pile), cell) for index, cell in enumerate(pile)]
    return [cell for _, cell in sorted(placed)]


def _draw_target(
    draw: random.Random, level: ZeroLevel, counts: Sequence[Counter[Moment]], cell: tuple[str, str]
) -> Target:
    column, stage = cell
    of_cell = [sorted(m.name for m in one if (m.column, m.stage) == cell) for one in counts]
    rank = draw.choice([rank for rank in range(RANKS) if of_cell[rank]])
    moment = Moment(stage, column, draw.choice(of_cell[rank]))
    return Target(level, moment, rank, draw.random(), draw.choice(_GRACES))


def _place(target: Target) -> tuple[int, bool, int]:
    moment = target.moment
    return list(KINDS).index(moment.stage), moment.column == BOUNDARY, COLUMNS.index(moment.column)
