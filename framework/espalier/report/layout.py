"""Place the models of a run in the columns and rows of the lineage drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from espalier.report.run import PlannedStage

COLUMNS = 4  # boxes side by side on the page


@dataclass(frozen=True)
class Spot:
    """A model's column and row, counted from the left and from the top, from 0."""

    stage: PlannedStage
    column: int
    row: int


def laid_out(stages: Sequence[PlannedStage]) -> list[Spot]:
    """Place each model to the right of its parent, and continue long chains in the next row, like lines of text.

    The longest chain of models comes first. Branches are placed in rows below the model that they branch off from,
    several short ones in one row where there is room.

    Args:
        stages: stages that have a model, each after its parent.
    """
    names = {stage.name for stage in stages}
    children: dict[str, list[PlannedStage]] = {name: [] for name in names}
    roots = []
    for stage in stages:
        if stage.parent in names:
            children[stage.parent].append(stage)
        else:
            roots.append(stage)
    canvas = _Canvas(children, _lengths(stages, children))
    for root in roots:
        canvas.place(root, 0)
    return [
        canvas.spots[stage.name] for stage in stages if stage.name in canvas.spots
    ]  # stages of a cycle have no spot


def _lengths(stages: Sequence[PlannedStage], children: dict[str, list[PlannedStage]]) -> dict[str, int]:
    """Stage name -> length of the longest chain of models that begins with it."""
    lengths: dict[str, int] = {}
    for stage in reversed(stages):  # children come later
        lengths[stage.name] = 1 + max((lengths.get(child.name, 0) for child in children[stage.name]), default=0)
    return lengths


@dataclass
class _Canvas:
    children: dict[str, list[PlannedStage]]
    lengths: dict[str, int]
    spots: dict[str, Spot] = field(default_factory=dict)
    taken: dict[int, set[int]] = field(default_factory=dict)

    def place(self, first: PlannedStage, column: int) -> None:
        """Place the longest chain from `first` in new rows, and then everything that branches off it."""
        chain = self._chain(first)
        while chain:
            part, chain = chain[: COLUMNS - column], chain[COLUMNS - column :]
            row = len(self.taken)
            self._put(part, column, row)
            for stage, follower in zip(part, [*part[1:], *chain[:1], None], strict=False):
                for branch in self.children[stage.name]:
                    if branch is not follower:
                        self._branch(branch, (self.spots[stage.name].column + 1) % COLUMNS, below=row)
            column = 0

    def _branch(self, first: PlannedStage, column: int, *, below: int) -> None:
        """Place a branch in a row below `below` that has room, else in new rows."""
        chain = self._chain(first)
        wanted = set(range(column, column + len(chain)))
        is_plain = all(len(self.children[stage.name]) < 2 for stage in chain) and max(wanted) < COLUMNS
        free = (row for row in self.taken if row > below and not self.taken[row] & wanted)
        if is_plain and (row := next(free, None)) is not None:
            self._put(chain, column, row)
        else:
            self.place(first, column)

    def _chain(self, first: PlannedStage) -> list[PlannedStage]:
        chain = [first]
        while following := self.children[chain[-1].name]:
            chain.append(max(following, key=lambda child: self.lengths[child.name]))
        return chain

    def _put(self, stages: Sequence[PlannedStage], column: int, row: int) -> None:
        for place, stage in enumerate(stages, column):
            self.spots[stage.name] = Spot(stage, place, row)
            self.taken.setdefault(row, set()).add(place)
