"""Every job file that people copy is valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from espalier.jobs.load import read_job
from espalier.jobs.recipe import stages_of
from espalier.stages.plan import build_plan

JOBS = sorted((Path(__file__).parents[2] / "jobs").rglob("*.yaml"))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_is_valid(path: Path) -> None:
    assert build_plan(stages_of(read_job(path)), context={}).stages
