"""Registries of declarations: built in, or added by other installed packages through entry points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def load_reference(reference: str) -> Any:
    """Import the object that `module:name` refers to."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True)
class Registry(Generic[T]):
    """Declarations of one sort, such as stage kinds or losses, by name.

    A package adds one by an entry point `name = "module:object"` in the registry's group. It never replaces another:
    a name that is taken, by this package or by two others, is `broken`, as is an entry that cannot be imported.

    Attributes:
        group: the entry point group, such as `espalier.stages`.
        sort: the class of the declarations.
        built_in: name -> `module:object` of those that come with this package, in the order in which they are listed.
    """

    group: str
    sort: type[T]
    built_in: Mapping[str, str]

    def __getitem__(self, name: str) -> T:
        """The declaration with this name.

        Raises:
            KeyError: there is none that can be used.
        """
        return self._found[0][name]

    def __contains__(self, name: object) -> bool:
        return name in self._found[0]

    def __iter__(self) -> Iterator[str]:
        """Names of all usable declarations, built-in ones first."""
        return iter(self._found[0])

    def values(self) -> Iterator[T]:
        return iter(self._found[0].values())

    @property
    def broken(self) -> Mapping[str, str]:
        """Name -> the reason why an entry cannot be used, as part of a sentence."""
        return self._found[1]

    @cached_property
    def _found(self) -> tuple[dict[str, T], dict[str, str]]:
        works: dict[str, T] = {name: load_reference(reference) for name, reference in self.built_in.items()}
        broken: dict[str, str] = {}
        added = sorted(entry_points(group=self.group), key=lambda entry: entry.name)
        given = Counter(entry.name for entry in added)
        for entry in added:
            if entry.name in self.built_in or given[entry.name] > 1:
                broken[entry.name] = f"the name {entry.name} of {_owner(entry)} is taken"
                continue
            try:
                works[entry.name] = self._checked(entry)
            except Exception as error:  # the other package may raise anything while it is imported
                broken[entry.name] = f"{entry.value} of {_owner(entry)} cannot be used: {type(error).__name__}: {error}"
        return works, broken

    def _checked(self, entry: EntryPoint) -> T:
        found = entry.load()
        if not isinstance(found, self.sort):
            raise TypeError(f"a {self.sort.__name__} is expected, not a {type(found).__name__}")
        if getattr(found, "name", entry.name) != entry.name:
            raise ValueError(f"it calls itself {getattr(found, 'name', None)!r}")
        return found


def _owner(entry: EntryPoint) -> str:
    return f"package {entry.dist.name}" if entry.dist is not None else "an unknown package"
