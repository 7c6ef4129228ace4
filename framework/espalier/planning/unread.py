"""Refuse settings that have no effect where they are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from espalier.config.base import Config, foreign
from espalier.config.faults import Fault


def unread(config: Config, settings: Sequence[str], *, owner: str, path: str) -> Iterator[Fault]:
    """Yield a fault for each setting that is not at its default although only `owner` reads it."""
    for setting in settings:
        for fault in foreign(config, setting, owner=owner):
            value = "settings" if isinstance(fault.value, Config) else fault.value
            yield replace(fault, path=f"{path}.{setting}", value=value)
