"""Refused input: every fault at once, each with its place, its value and a remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One thing wrong with what a person gave us.

    Attributes:
        path: the setting, as `stages[2].optimizer.lr`.
        value: what was given; None when something is missing.
        allowed: what would be right, and what to do.
        near: a likely meaning of a misspelt word.
    """

    path: str
    value: object
    allowed: str
    near: str | None = None

    def __str__(self) -> str:
        given = "is missing" if self.value is None else f"is {_short(self.value)}"
        hint = f" Did you mean `{self.near}`?" if self.near else ""
        return f"`{self.path}` {given}; allowed: {self.allowed}.{hint}"


class RefusedInput(ValueError):
    """Input that cannot work, refused before anything starts. Exit code 2."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))

    def __reduce__(self) -> tuple[type, tuple[tuple[Fault, ...]]]:  # crosses Ray by pickling
        return RefusedInput, (self.faults,)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
