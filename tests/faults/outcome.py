"""What a run came to, as plain values that must not depend on whether it was disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import xxhash

from espalier.checkpoint.read import StateReader
from espalier.stages.run_folder import RunFolder
from espalier.storage.local import LocalStorage, xxh3_of
from espalier.tracking import jsonl
from espalier.tracking.record import STEPS

_CLOCK = {"time", "seconds", "step_seconds", "tokens_per_second", "peak_bytes", "attempt", "key", "run"}


def outcome(run: Path) -> dict[str, Any]:
    """Exported files, the last checkpoint and result of every stage, and the record of steps.

    Left out are times, memory and attempts, and keys, which depend on where the data lies. Every value is a leaf of a
    flat mapping: the place of it -> what is there.
    """
    stages = sorted(path.parent.name for path in run.glob("stages/*/result.json"))
    found: dict[str, Any] = {f"stages done/{stage}": True for stage in stages}
    for stage in stages:
        found |= {f"{stage}/{place}": value for place, value in _stage(run, stage)}
    steps = jsonl.read(run / STEPS)
    found["number of recorded steps"] = len(steps)
    for number, record in enumerate(steps):
        found |= {f"record {number}/{place}": value for place, value in _leaves(record)}
    files = sorted(path for path in run.glob("exports/**/*") if path.is_file())
    return found | {str(path.relative_to(run)): xxh3_of(path) for path in files}


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Each place where they differ, in the order of the run."""
    places = [*expected, *(place for place in found if place not in expected)]
    nothing = "nothing"
    return [
        f"{place}: {found.get(place, nothing)} instead of {expected.get(place, nothing)}"
        for place in places
        if found.get(place, nothing) != expected.get(place, nothing)
    ]


def _stage(run: Path, stage: str) -> Iterator[tuple[str, Any]]:
    result = RunFolder(run).result(stage)
    assert result is not None
    yield from _leaves({"status": result.status, "metrics": result.metrics, "cost": vars(result.cost)})
    if result.checkpoint is None:
        return
    reader = StateReader.open(LocalStorage(run), result.checkpoint)
    origin = reader.manifest.origin
    yield from _leaves({"step": origin.step, "model": origin.model, "parent": origin.parent})
    yield from _leaves({"state": reader.manifest.state})
    for slot in reader.slots:
        for name in reader.names(slot):
            yield f"{slot} {name}", _digest(reader.tensor(slot, name))


def _digest(tensor: torch.Tensor) -> str:
    return xxhash.xxh3_128_hexdigest(tensor.contiguous().view(-1).view(torch.uint8).numpy())


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, one in value.items():
            if key not in _CLOCK:
                yield from _leaves(one, f"{place}/{key}".strip("/"))
    else:
        yield place, list(value) if isinstance(value, tuple) else value
