"""What Ray, DeepSpeed and transformers print that helps nobody, kept off the terminal.

Workers are not silenced: what they write goes to their logs, where one looks when something went wrong.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_QUIET = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed",  # our message says which one, and why
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",  # otherwise it warns at every fork
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
_LOGGERS = ("DeepSpeed", "ray", "ray.train", "ray.data", "transformers", "datasets", "torch.distributed")


@contextlib.contextmanager
def silenced(*, verbose: bool = False) -> Iterator[None]:
    """Quiet inside; everything as before after it. With `verbose` it does nothing.

    Enter it before Ray and transformers are imported: they read their variables then. A variable that is set
    already stays as it is.
    """
    if verbose:
        yield
        return
    with environment(_QUIET), _loggers_at(logging.ERROR), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@contextlib.contextmanager
def environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """Set the variables that are not set yet, and take them away again."""
    added = [name for name in defaults if name not in os.environ]
    os.environ.update({name: defaults[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def overridden(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set the variables, or take those away that are to be None, and put back what was there."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


@contextlib.contextmanager
def secrets_kept_back(names: Iterable[str]) -> Iterator[dict[str, str]]:
    """Variables that are set, out of the environment meanwhile: what is started inside does not inherit them."""
    wanted = tuple(names)
    found = {name: value for name in wanted if (value := os.environ.get(name))}
    with overridden(dict.fromkeys(wanted)):
        yield found


def wandb_folders(run_folder: Path) -> dict[str, str]:
    """Variables that let W&B do without a home which cannot be written to: what it keeps there, it keeps in the run."""
    home = os.path.expanduser("~")  # as it is, where there is none
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


@contextlib.contextmanager
def _loggers_at(level: int) -> Iterator[None]:
    before = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, old in before.items():
            logging.getLogger(name).setLevel(old)
