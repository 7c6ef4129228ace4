"""The graph that stages make by naming the stages whose output they take, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from espalier.config.faults import Fault, nearest
from espalier.config.stages import CorrectStage, PruneStage, StageConfig

_MAKES_MODEL = ("load", "grow", "prune", "distill", "train", "correct")


def graph_faults(configs: Sequence[StageConfig]) -> list[Fault]:
    """Names used twice, unknown inputs, inputs that make no model, circles; all at once."""
    doubled = list(_duplicate_names(configs))
    circles = [] if doubled else _circles(configs)  # of two stages with one name nobody knows which is meant
    return [*doubled, *_unknown_inputs(configs), *circles]


def _duplicate_names(configs: Sequence[StageConfig]) -> Iterator[Fault]:
    seen: set[str] = set()
    for position, config in enumerate(configs):
        if config.name in seen:
            yield Fault(f"stages[{position}].name", config.name, "a name that no other stage has")
        seen.add(config.name)


def _unknown_inputs(configs: Sequence[StageConfig]) -> Iterator[Fault]:
    names = {config.name for config in configs}
    for config in configs:
        for setting, name in config.inputs().items():
            path = f"stages.{config.name}.{setting}"
            wanted = _wanted(config, setting)
            others = (other for other in configs if other is not config and other.kind in wanted)
            fitting = list(dict.fromkeys(other.name for other in others))
            if name not in names:
                yield Fault(path, name, f"a stage of this job: {', '.join(fitting)}", nearest(name, fitting))
            elif name not in fitting:
                yield Fault(path, name, f"another stage of kind {', '.join(wanted)}")


def _wanted(config: StageConfig, setting: str) -> tuple[str, ...]:
    """Kinds of stage that a setting may name."""
    if isinstance(config, PruneStage) and setting == "scores":
        return ("prune",)
    if isinstance(config, CorrectStage) and setting == "teacher":
        return (*_MAKES_MODEL, "cross_fit")
    return _MAKES_MODEL


def _circles(configs: Sequence[StageConfig]) -> Iterator[Fault]:
    """One fault for each set of stages that wait for one another. A stage that waits for itself has a fault already."""
    takes = {config.name: set(config.inputs().values()) - {config.name} for config in configs}
    while waiting := _never_ready(takes):
        circle = _one_way_round(next(iter(waiting)), waiting)
        yield Fault("stages", " -> ".join(circle), "stages that do not wait for one another in a circle")
        takes = {name: names - set(circle) for name, names in takes.items() if name not in circle}


def _never_ready(takes: dict[str, set[str]]) -> dict[str, set[str]]:
    """The stages that wait for others which wait, too; each with those of them that it waits for."""
    waiting = {name: names & takes.keys() for name, names in takes.items()}
    while ready := [name for name, names in waiting.items() if not names]:
        waiting = {name: names - set(ready) for name, names in waiting.items() if name not in ready}
    return waiting


def _one_way_round(start: str, waiting: dict[str, set[str]]) -> list[str]:
    """Each of `waiting` takes from another of them, so following inputs comes back."""
    way = [start]
    while way.count(way[-1]) == 1:
        way.append(min(waiting[way[-1]]))
    return way[way.index(way[-1]) :]
