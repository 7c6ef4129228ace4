"""Which files among a run's states and records are its own, and which others have put there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from espalier.config.base import NAME
from espalier.config.faults import RefusedInput
from espalier.storage.contract import COMMIT, Storage, without_unfinished

_STAGE = f"(?:{NAME.pattern})"
_STEP = r"step-[0-9]{8,16}"
_FILE = rf"(?:{re.escape(COMMIT)}|attempt-[0-9]+-rank-[0-9]+-[0-9]+\.safetensors)"
_FOLDERS = re.compile(rf"stages(/{_STAGE}(/{_STEP})?)?|records(/samples(/{_STAGE})?)?")
_FILES = re.compile(
    rf"stages/{_STAGE}/(?:(?:result|left_out)\.json|scores\.safetensors|{_STEP}/{_FILE})"
    r"|records/(?:attempts|epochs|events|steps|time)\.jsonl"
    rf"|records/samples/{_STAGE}/(?:(?:epoch-[0-9]+|names)\.parquet|(?:suspects|heaviest|confused)\.csv)"
)
_OF_CHECKPOINT = re.compile(_FILE)


def is_of_checkpoint(name: str) -> bool:
    """Whether a file in a checkpoint's folder is one that espalier writes there."""
    return _OF_CHECKPOINT.fullmatch(without_unfinished(name)) is not None


def strangers(storage: Storage, folder: str) -> Iterator[str]:
    """What lies in `stages`, `records` or a folder below them that no run writes there; links are never a run's."""
    for name in storage.list(folder):
        path = f"{folder}/{name}"
        plain = f"{folder}/{without_unfinished(name)}"
        try:
            holds = storage.list(path)
        except RefusedInput:  # a link that leads out
            yield path
            continue
        if _FOLDERS.fullmatch(plain) and (holds or not _is_file(storage, path)):
            yield from strangers(storage, path)
        elif holds or not _FILES.fullmatch(plain):
            yield path


def _is_file(storage: Storage, path: str) -> bool:
    try:
        storage.read_bytes(path, max_bytes=0)
    except IsADirectoryError:
        return False
    except (OSError, ValueError):
        return True
    return True
