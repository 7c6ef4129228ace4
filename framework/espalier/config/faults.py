"""Refused input: faults with path, value and remedy, raised all together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One fault of the input.

    Attributes:
        path: the setting, as `stages.heal.optimizer.lr` or `stages[2].name`; relative inside a validator.
        value: what was given; None when something is missing.
        allowed: allowed values, and what to do.
        near: the likely correct spelling of a misspelt word.
        line: in the job file, from 1; None if the setting is not in it.
        given: the fault in words (`stands twice`), where the value does not show it.
    """

    path: str
    value: object
    allowed: str
    near: str | None = None
    line: int | None = None
    given: str | None = None

    @property
    def found(self) -> str:
        """What was given, in words: `is 7`, `is missing`."""
        return self.given or ("is missing" if self.value is None else f"is {_short(self.value)}")

    def __str__(self) -> str:
        place = f"`{self.path}`" + (f" (line {self.line})" if self.line else "")
        hint = f" Did you mean `{self.near}`?" if self.near else ""
        sentence = f"{place} {self.found}; allowed: {self.allowed}.{hint}"
        # control characters of a job file or a file's name must not reach a terminal
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in sentence)


class RefusedInput(ValueError):
    """Input with faults, refused before anything starts. Exit code 2."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))

    def __reduce__(self) -> tuple[type, tuple[tuple[Fault, ...]]]:  # crosses Ray by pickling
        return RefusedInput, (self.faults,)


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The most similar one of `words`, or None."""
    close = difflib.get_close_matches(word, list(words), n=1)
    return close[0] if close else None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:56]} … {text[-56:]}"
