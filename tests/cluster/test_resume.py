"""What `resume` and `export` do to a run's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from espalier.config.faults import RefusedInput
from espalier.config.load import read_job
from espalier.planning.prepare import PreparedJob, prepare
from espalier.stages.run_folder import RunFolder
from espalier.training.export import export_stage
from espalier_cluster.resume import go_back
from support.tiny import write_job


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = write_job(tmp_path)
    run = tmp_path / "runs" / "tiny"
    for stage, steps in {"parent": [0], "slim": [0], "heal": [2, 4, 6], "score": []}.items():
        (run / "stages" / stage).mkdir(parents=True)
        (run / "stages" / stage / "result.json").touch()
        for step in steps:
            (run / "stages" / stage / f"step-{step:08d}").mkdir()
    return path


def prepared(job: Path, resume: str) -> tuple[PreparedJob, RunFolder]:
    found = prepare(read_job(job, [f"resume={resume}"]))
    return found, RunFolder.of(found.job)


def left(folder: RunFolder) -> set[str]:
    return {str(path.relative_to(folder.path / "stages")) for path in folder.path.glob("stages/*/*")}


def test_auto_leaves_everything(job: Path) -> None:
    run, folder = prepared(job, "auto")
    before = left(folder)
    go_back(run, folder)
    assert left(folder) == before


def test_never_leaves_nothing(job: Path) -> None:
    run, folder = prepared(job, "never")
    go_back(run, folder)
    assert left(folder) == set()


def test_a_checkpoint_leaves_what_is_not_newer(job: Path) -> None:
    run, folder = prepared(job, str(job.parent / "runs" / "tiny" / "stages" / "heal" / "step-00000004"))
    go_back(run, folder)
    assert left(folder) == {
        "parent/result.json",
        "parent/step-00000000",
        "slim/result.json",
        "slim/step-00000000",
        "heal/step-00000002",
        "heal/step-00000004",
    }


def test_another_runs_checkpoint_is_refused_and_nothing_is_removed(job: Path) -> None:
    other = job.parent / "elsewhere" / "stages" / "heal" / "step-00000004"
    other.mkdir(parents=True)
    run, folder = prepared(job, str(other))
    before = left(folder)
    with pytest.raises(RefusedInput, match="a checkpoint of this run"):
        go_back(run, folder)
    assert left(folder) == before


def test_export_names_the_stages_that_have_a_model(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match="has none yet"):
        export_stage(tmp_path, "heal", tmp_path / "out", dtype="float32")
