"""Folders of runs as drivers, clusters and accidents leave them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from espalier.checkpoint.lock import Holder
from espalier.stages.ownership import claim
from espalier.stages.run_folder import RunFolder
from espalier.tracking.driver_file import FILE, DriverRecord
from espalier.tracking.record import STEPS, StepLog, StepRecord

NOW = 1_800_000_000.0
ELSEWHERE = {"host": "node-7", "pid": 4711}
PLAN = [
    {"name": "parent", "kind": "load", "key": "k1"},
    {"name": "heal", "kind": "distill", "key": "k2", "inputs": {"student": "parent"}, "steps": 7, "flops": 70.0},
    {"name": "more", "kind": "distill", "key": "k3", "inputs": {"student": "heal"}, "steps": 7, "flops": 140.0},
]


def made_run(storage: Path, name: str = "slim", *, plan: Any = PLAN) -> RunFolder:
    """A run that was claimed and planned, and of which nothing else is known."""
    folder = RunFolder(storage / name)
    folder.files.make_folder(".")
    claim(folder, versions={"espalier": "0.1.0"})
    if plan is not None:
        folder.write_json("plan.json", plan)
    return folder


def beat(folder: RunFolder, *, age: float = 0.0, stored_age: float | None = None, **known: Any) -> DriverRecord:
    """A heartbeat, `age` seconds before `NOW` by its driver's clock and `stored_age` by the storage's."""
    at = NOW - age
    record = DriverRecord(**{**ELSEWHERE, "started": at - 100.0, "beat": at, **known})
    (folder.path / FILE).write_text(record.model_dump_json())
    touch(folder.path / FILE, age if stored_age is None else stored_age)
    return record


def lock(folder: RunFolder, *, age: float = 0.0, here: bool = False, since: float = NOW - 200.0, **known: Any) -> None:
    """A lock of a process on another host, or of this process."""
    holder = asdict(Holder.this_process("slim"))
    if not here:
        holder |= {**ELSEWHERE, "place": "another boot"}
    holder |= {"since": since, **known}
    (folder.path / "lock").write_text(json.dumps({"schema_version": 1, **holder}))
    touch(folder.path / "lock", age)


def touch(path: Path, age: float) -> None:
    os.utime(path, (NOW - age, NOW - age))


def result(folder: RunFolder, stage: str, key: str, *, status: str = "done", gate: str = "") -> None:
    metrics = {"gate": gate} if gate else {}
    values = {"stage": stage, "kind": "distill", "key": key, "status": status, "checkpoint": None, "metrics": metrics}
    folder.write_json(f"stages/{stage}/result.json", values)


def steps(folder: RunFolder, records: list[StepRecord]) -> None:
    log = StepLog(folder.path / STEPS)
    for record in records:
        log.append(record)
