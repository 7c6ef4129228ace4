"""The suite in several processes (`-n`): how its files are dealt out."""

from __future__ import annotations

import gc

import pytest

_STARTS_PROCESSES = ("run_ranks", "finish", "cluster", "subprocess")


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Files that start processes first: a long one at the end would leave the other process without work."""
    items.sort(key=lambda item: not any(hasattr(item.module, name) for name in _STARTS_PROCESSES))


def pytest_collection_finish() -> None:
    """Engines collect garbage as they close: not through all that was imported and collected."""
    gc.freeze()
