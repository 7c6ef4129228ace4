"""Run folders of jobs over labelled data, as a run leaves them, with made-up numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from espalier.stages.result import Cost, StageResult
from espalier.tracking.events import EVENTS, EventLog
from espalier.tracking.record import STEPS, StepLog
from framework.report.runs import EVIL
from framework.tracking.epochs import STEPS_EACH, epoch, write_epoch, write_list
from framework.tracking.samples import step

NUM_EPOCHS = 5
NUM_VALID = 100
_SHAPE = {"layers": 2, "hidden": 36, "ffn": 53, "heads": 6, "kv_heads": 6, "head_dim": 6, "parameters": 31860}
_STAGES: tuple[tuple[str, str, dict[str, str], dict[str, int]], ...] = (
    ("parent", "load", {}, _SHAPE),
    ("vanilla", "train", {"student": "parent"}, _SHAPE),
    ("twins", "cross_fit", {"student": "parent"}, {}),
    ("heal", "correct", {"student": "parent", "teacher": "twins"}, _SHAPE),
    ("scores", "evaluate", {"model": "heal", "against[0]": "vanilla"}, {}),
)

VANILLA = {
    "accuracy": 0.75,
    "f1": 0.5,
    "f1_macro": 0.6,
    "matthews": 0.4,
    "loss": 0.8,
    "confusion": [[60, 10], [15, 15]],
}
HEAL = {"accuracy": 0.8, "f1": 0.625, "f1_macro": 0.7, "matthews": 0.45, "loss": 0.6, "confusion": [[62, 8], [12, 18]]}


def write_labelled_run(
    folder: Path, *, until: str = "scores", lists: bool = True, bare: bool = False, **data: Any
) -> Path:
    """A run in which everything up to stage `until` is done.

    Args:
        lists: whether there are lists of suspects and of the heaviest samples.
        bare: whether samples have neither names nor answers, as text has none.
        data: changes to the job's data.
    """
    asked = {"task": "classification", "labels": ["0", "1"], "names": ["bad", "good"], "metric": None}
    _write(folder / "job.json", {"name": "reviews", "data": {**asked, **data}})
    _write(folder / "run.json", {"run_id": "r17", "wandb_id": "r17"})
    _write(folder / "plan.json", [{"name": n, "kind": k, "inputs": i, "shape": s} for n, k, i, s in _STAGES])
    names = [name for name, *_ in _STAGES]
    events = EventLog(folder / EVENTS)
    for name, kind, _, _ in _STAGES[: names.index(until) + 1]:
        events.add("started", name)
        metrics = {"best": {"epoch": 2, "step": 6, "value": 0.7}} if kind in ("train", "correct") else {}
        write_result(folder, StageResult(name, kind, "k", "done", None, metrics, Cost(seconds=2.0)))
        events.add("finished", name)
    if until == "scores":
        write_scores(folder, "accuracy", heal=HEAL, vanilla=VANILLA)
    if "vanilla" in names[: names.index(until) + 1]:
        _train(folder, "vanilla", before=0, plain=True, bare=False)
    if "heal" in names[: names.index(until) + 1]:
        _train(folder, "heal", before=NUM_EPOCHS * STEPS_EACH, plain=False, bare=bare)
    if lists:
        write_list(folder, "heal", "suspects", list(range(40, 65)), text=EVIL, pair=f"the other {EVIL}")
        write_list(folder, "heal", "heaviest", list(range(96, 64, -1)))
    return folder


def write_scores(folder: Path, watched: str, **models: dict[str, Any]) -> None:
    """The evaluation: of the first model, beside the others."""
    size = {"tokens": 3390, "parameters": 31860, "flops_per_token": 61477.5, "layers": 2, "peak_bytes": 2**29}
    found = {name: {**measured, **size, **measured} for name, measured in models.items()}
    metrics = {"model": next(iter(models)), "watched": watched, "models": found}
    cost = Cost(tokens=3390 * len(models), samples=NUM_VALID * len(models), seconds=3.0)
    write_result(folder, StageResult("scores", "evaluate", "k", "done", None, metrics, cost))


def write_result(folder: Path, result: StageResult) -> None:
    _write(folder / "stages" / result.stage / "result.json", result.to_json())


def _train(folder: Path, stage: str, *, before: int, plain: bool, bare: bool) -> None:
    log = StepLog(folder / STEPS)
    for number in range(1, NUM_EPOCHS * STEPS_EACH + 1):
        log.append(replace(step(number, stage=stage, before=before), kind="correct" if not plain else "train"))
    for number in range(1, NUM_EPOCHS + 1):
        write_epoch(folder, epoch(number, stage=stage, before=before, plain=plain), bare=bare)


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
