"""Check the graph of stages, whose edges are the stages that a setting names as input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from espalier.config.faults import Fault, nearest
from espalier.jobs.kind import KINDS
from espalier.jobs.stage import StageSettings, Yield, input_settings


def graph_faults(configs: Sequence[StageSettings]) -> list[Fault]:
    """All faults of the graph: duplicate names, unknown inputs, inputs that yield the wrong thing, cycles."""
    doubled = list(_duplicate_names(configs))
    circles = [] if doubled else _cycles(configs)  # with duplicate names the edges are ambiguous
    return [*doubled, *_unknown_inputs(configs), *circles]


def _duplicate_names(configs: Sequence[StageSettings]) -> Iterator[Fault]:
    seen: set[str] = set()
    for position, config in enumerate(configs):
        if config.name in seen:
            yield Fault(f"stages[{position}].name", config.name, "a name that no other stage has")
        seen.add(config.name)


def _unknown_inputs(configs: Sequence[StageSettings]) -> Iterator[Fault]:
    names = {config.name for config in configs}
    for config in configs:
        inputs = input_settings(type(config))
        for setting, name in config.inputs().items():
            path, wanted = f"stages.{config.name}.{setting}", inputs[setting.partition("[")[0]].yields
            others = (other for other in configs if other is not config and _leaves_one_of(other, wanted))
            fitting = list(dict.fromkeys(other.name for other in others))
            if name not in names:
                yield Fault(path, name, f"a stage of this job: {', '.join(fitting)}", nearest(name, fitting))
            elif name not in fitting:
                kinds = [kind.name for kind in KINDS.values() if set(kind.yields) & set(wanted)]
                yield Fault(path, name, f"another stage of kind {', '.join(kinds)}")


def _leaves_one_of(config: StageSettings, wanted: Sequence[Yield]) -> bool:
    return bool(set(KINDS[config.kind].yields) & set(wanted))


def _cycles(configs: Sequence[StageSettings]) -> Iterator[Fault]:
    """One fault for each cycle. A stage that takes from itself is reported by `_unknown_inputs`."""
    takes = {config.name: set(config.inputs().values()) - {config.name} for config in configs}
    while waiting := _unresolvable(takes):
        circle = _find_cycle(next(iter(waiting)), waiting)
        yield Fault("stages", " -> ".join(circle), "stages that do not wait for one another in a circle")
        takes = {name: names - set(circle) for name, names in takes.items() if name not in circle}


def _unresolvable(takes: dict[str, set[str]]) -> dict[str, set[str]]:
    """The stages that are on a cycle or depend on one, each with those of them that it takes from."""
    waiting = {name: names & takes.keys() for name, names in takes.items()}
    while ready := [name for name, names in waiting.items() if not names]:
        waiting = {name: names - set(ready) for name, names in waiting.items() if name not in ready}
    return waiting


def _find_cycle(start: str, waiting: dict[str, set[str]]) -> list[str]:
    """A cycle, found by following inputs from `start`: each of `waiting` takes from another of them."""
    way = [start]
    while way.count(way[-1]) == 1:
        way.append(min(waiting[way[-1]]))
    return way[way.index(way[-1]) :]
