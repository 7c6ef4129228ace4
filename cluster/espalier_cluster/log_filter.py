"""Keep warnings and progress bars of Ray, transformers and DeepSpeed off the terminal of the driver.

The workers' output is not filtered: it goes to their log files, which are read when something went wrong.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

from espalier_cluster.environment import default_variables

_QUIET = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # our messages say which one, and why; of a lost node a trace of Ray's own stack comes, too
    "RAY_DEDUP_LOGS_SKIP_REGEX": "A worker died or was killed|Raylet is terminated",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",  # otherwise it warns at every fork
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
_LOGGERS = ("DeepSpeed", "ray", "ray.train", "ray.data", "transformers", "datasets", "torch.distributed")


@contextlib.contextmanager
def filter_logs(*, verbose: bool = False) -> Iterator[None]:
    """Suppress warnings, progress bars and log messages below ERROR inside the block; do nothing when `verbose`.

    Enter it before importing Ray and transformers, which read their variables on import. Variables that are already
    set are not changed.
    """
    if verbose:
        yield
        return
    with default_variables(_QUIET), _loggers_at(logging.ERROR), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@contextlib.contextmanager
def without_native_lines(expected: bytes) -> Iterator[None]:
    """Keep lines that hold `expected` off stderr when native code prints them; others appear after the block."""
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            kept.seek(0)
            for line in kept:
                if expected not in line:
                    os.write(2, line)


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
