"""The tracker that shows a run in an MLflow server.

A step is one request, and MLflow does not promise to take it whole: what of the first step after a start is there
already is left out. The server finds a run by the tag `espalier.run`.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from espalier.stages.result import StageResult
from espalier.tracking import payload
from espalier.tracking.epochs import EpochRecord
from espalier.tracking.events import Event
from espalier.tracking.mlflow_server import MlflowRefused, MlflowServer
from espalier.tracking.mlflow_settings import MlflowConfig
from espalier.tracking.record import StepRecord
from espalier.tracking.tracker import Position, Report, TrackedRun

_TAG = "espalier.run"
_NUM_PARAMS, _PARAM_LETTERS = 100, 500  # that MLflow takes in one request, and of one value
_MISSING = "RESOURCE_DOES_NOT_EXIST"


class MlflowTracker:
    """One run of an MLflow experiment. See `Tracker`."""

    def __init__(self, run: TrackedRun, settings: MlflowConfig, report: Report) -> None:
        self._tracked = run
        self._experiment = settings.experiment
        self._server = MlflowServer(settings.uri or os.environ.get("MLFLOW_TRACKING_URI", ""), run.secrets)
        self._marks = payload.PlanMarks(run.folder)
        self._id = ""
        self._known: dict[str, tuple[float, int]] = {}  # of each metric the newest value, and its step
        self._is_unsure = False
        self._step = 0

    def start(self) -> Position:
        experiment = self._experiment_id()
        asked = {"experiment_ids": [experiment], "filter": f"tags.`{_TAG}` = '{self._tracked.id}'", "max_results": 1}
        found = self._server.post("runs/search", asked).get("runs", [])
        if found:
            self._id = found[0]["info"]["run_id"]
            metrics = found[0]["data"].get("metrics", [])
            self._known = {one["key"]: (float(one["value"]), int(one.get("step", 0))) for one in metrics}
            self._step, self._is_unsure = self._whole(payload.AXIS), True
            self._server.post("runs/update", {"run_id": self._id, "status": "RUNNING"})
        else:
            self._id = self._make(experiment)
        return Position(self._step, lambda stage: self._whole(f"stage/{stage}/epoch"))

    def restart(self) -> None:
        """Keep what the server was sent first."""

    def log_step(self, record: StepRecord) -> None:
        values = payload.numbers(payload.step_values(record) | self._marks.of(record.stage))
        values |= {payload.AXIS: record.global_step}  # last, as it says that all others are there
        self._log(values, step=record.global_step, at=record.time, checks=self._is_unsure)
        self._step, self._is_unsure = record.global_step, False

    def log_epoch(self, record: EpochRecord) -> None:
        values = payload.numbers(payload.epoch_values(record))
        last = f"stage/{record.stage}/epoch"  # as the axis in a step
        self._log(values | {last: values.pop(last)}, step=record.global_step, at=record.time, checks=True)

    def log_result(self, result: StageResult) -> None:
        values = payload.numbers(payload.result_values(result))
        known = {name: value for name, (value, _) in self._known.items()}
        new = {name: value for name, value in values.items() if not _is_same(known.get(name, math.inf), value)}
        if new:
            self._log(new, step=self._step, at=time.time())
            self._known |= {name: (value, self._step) for name, value in new.items()}

    def alert(self, event: Event) -> None:
        self._server.post(
            "runs/set-tag", self._run(key=f"espalier.{event.kind}", value=f"{event.stage}: {event.message}")
        )

    def finish(self, results: Sequence[StageResult]) -> None:
        self._server.post("runs/update", self._run(status="FINISHED", end_time=_milliseconds(time.time())))

    def advice(self) -> str:
        return ""

    def _log(self, values: Mapping[str, float], *, step: int, at: float, checks: bool = False) -> None:
        """Send metrics in the order given; with `checks` without those that the server has of this step."""
        lacking = {name: one for name, one in values.items() if not (checks and self._has(name, step))}
        made = {"timestamp": _milliseconds(at), "step": step}
        metrics = [{"key": name, "value": _json_number(one), **made} for name, one in lacking.items()]
        if metrics:
            self._server.post("runs/log-batch", self._run(metrics=metrics))

    def _has(self, name: str, step: int) -> bool:
        return name in self._known and self._known[name][1] >= step

    def _whole(self, name: str) -> int:
        """The newest value of a metric that counts; 0 where the server has none."""
        return int(self._known[name][0]) if name in self._known else 0

    def _run(self, **more: Any) -> dict[str, Any]:
        return {"run_id": self._id, **more}

    def _experiment_id(self) -> str:
        name = self._experiment
        try:
            return self._server.get("experiments/get-by-name", {"experiment_name": name})["experiment"]["experiment_id"]
        except MlflowRefused as refused:
            if refused.code != _MISSING:
                raise
        return self._server.post("experiments/create", {"name": name})["experiment_id"]

    def _make(self, experiment: str) -> str:
        asked = {
            "experiment_id": experiment,
            "run_name": self._tracked.name,
            "start_time": _milliseconds(time.time()),
            "tags": [{"key": _TAG, "value": self._tracked.id}],
        }
        run_id = self._server.post("runs/create", asked)["run"]["info"]["run_id"]
        params = [{"key": key, "value": value[:_PARAM_LETTERS]} for key, value in _flat(self._tracked.job) if value]
        for first in range(0, len(params), _NUM_PARAMS):
            some = params[first : first + _NUM_PARAMS]
            self._server.post("runs/log-batch", {"run_id": run_id, "params": some})
        return run_id


def _flat(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and text of each setting of a job."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    if not pairs and value is not None and not isinstance(value, Mapping | list | tuple):
        yield path, str(value)
    for name, inner in pairs:
        yield from _flat(inner, f"{path}.{name}" if path else str(name))


def _json_number(value: float) -> float | str:
    """JSON has no name for what is not finite; MLflow takes these."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _is_same(known: float, value: float) -> bool:
    return known == value or (math.isnan(known) and math.isnan(value))


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
