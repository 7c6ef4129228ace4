"""The results that a run's stages have left, as far as they are there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from espalier.stages.result import StageResult


def read_results(run_folder: Path, stages: Iterable[str]) -> dict[str, StageResult]:
    """Stage name -> result, for those of `stages` that have one, in the order given."""
    results: dict[str, StageResult] = {}
    for stage in stages:
        path = run_folder / "stages" / stage / "result.json"
        if path.exists():
            results[stage] = StageResult.from_json(json.loads(path.read_text()))
    return results
