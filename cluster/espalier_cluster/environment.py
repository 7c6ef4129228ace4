"""Set, override and hide environment variables for the time of a `with` block."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


@contextlib.contextmanager
def default_variables(defaults: Mapping[str, str]) -> Iterator[None]:
    """Set the variables that are not set yet; unset them again after the block."""
    added = [name for name in defaults if name not in os.environ]
    os.environ.update({name: defaults[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def override_variables(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set the variables, or unset those whose value is None; restore the old values after the block."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


@contextlib.contextmanager
def hide_secrets(names: Iterable[str]) -> Iterator[dict[str, str]]:
    """Remove secret variables from the environment so that child processes do not inherit them.

    Yields:
        The values of those that were set, by name. They are set again after the block.
    """
    wanted = tuple(names)
    found = {name: value for name in wanted if (value := os.environ.get(name))}
    with override_variables(dict.fromkeys(wanted)):
        yield found


def wandb_folders(run_folder: Path) -> dict[str, str]:
    """Variables that make W&B keep its files in the run's folder; none when the home directory is writable."""
    home = os.path.expanduser("~")  # stays "~" for a user without a home
    if os.access(home, os.W_OK):
        return {}
    names = {"WANDB_CACHE_DIR": "cache", "WANDB_DATA_DIR": "data", "WANDB_CONFIG_DIR": "config"}
    return {name: str(run_folder / "wandb" / folder) for name, folder in names.items()}


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
