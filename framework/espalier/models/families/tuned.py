"""Which parameters of a model a stage trains."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from espalier.config.faults import Fault, RefusedInput
from espalier.config.training import TuneConfig
from espalier.models.families.layout import layout
from espalier.models.families.naming import tied_names
from espalier.models.shape import ConfigDict

_SHOWN = 3


def tuned_names(config: ConfigDict, tune: TuneConfig | None, *, path: str = "tune") -> frozenset[str] | None:
    """Names of the parameters that are trained, as `layout` has them; None for all of them.

    A tied parameter is trained when a pattern fits any of its names, as there is only one to be trained.

    Args:
        path: of the setting, as `stages.heal.tune`.

    Raises:
        RefusedInput: naming every pattern that fits no parameter, with those whose names are nearest.
    """
    if tune is None:
        return None
    own = {name: name for name in layout(config)} | tied_names(config)
    fits = [{own[name] for name in own if fnmatchcase(name, pattern)} for pattern in tune.only]
    if faults := list(_faults(tune.only, fits, list(own), path)):
        raise RefusedInput(faults)
    return frozenset().union(*fits)


def _faults(patterns: Sequence[str], fits: list[set[str]], names: list[str], path: str) -> Iterator[Fault]:
    for position, (pattern, found) in enumerate(zip(patterns, fits, strict=True)):
        if not found:
            near = difflib.get_close_matches(pattern, names, n=_SHOWN, cutoff=0.0)
            yield Fault(
                f"{path}.only[{position}]", pattern, f"a pattern that fits a parameter, such as {', '.join(near)}"
            )
