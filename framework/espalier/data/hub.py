"""Stream the rows of a data set on the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from espalier.config.data import OriginConfig
from espalier.config.faults import Fault, RefusedInput

_TIMEOUT_SECONDS = 10.0


def hub_rows(origin: OriginConfig, *, setting: str) -> Iterator[dict[str, Any]]:
    """Yield every row of a data set.

    Raises:
        RefusedInput: a data set that cannot be reached or that the hub does not have, rows that cannot be read.
    """
    import datasets

    name = origin.dataset
    assert name is not None
    if Path(name).exists():  # `datasets` would read this folder, which no fingerprint covers
        allowed = "a hub name that no folder here has too; for files of your own use another `source`"
        raise RefusedInput([Fault(f"{setting}.dataset", name, allowed)])
    number = 0
    try:
        reach(name, origin.revision)
        rows: Iterable[dict[str, Any]] = datasets.load_dataset(
            name, origin.subset, split=origin.split, revision=origin.revision, streaming=True
        )
        for row in rows:
            number += 1
            yield row
    except (MemoryError, RefusedInput):
        raise
    except Exception as error:  # the libraries behind `datasets` raise errors of many kinds
        if number and isinstance(error, OSError):  # a lost connection: another try may succeed
            raise
        where = f" from row {number + 1} on" if number else ""
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        allowed = f"a data set of the hub that can be reached and read from here{where}, with its `subset` and `split`"
        raise RefusedInput([Fault(f"{setting}.dataset", name, f"{allowed} ({reason})")]) from error


def reach(name: str, revision: str | None) -> None:
    """Check once that the hub has a data set that is not cached; `datasets` would try for half a minute."""
    import huggingface_hub
    from datasets import config

    is_cached = (Path(config.HF_DATASETS_CACHE) / name.replace("/", "___")).is_dir()
    if not is_cached and not huggingface_hub.constants.HF_HUB_OFFLINE:
        huggingface_hub.HfApi().dataset_info(name, revision=revision, timeout=_TIMEOUT_SECONDS)
