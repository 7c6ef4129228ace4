"""What `resume` and `export` do to a run's folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from espalier.checkpoint.write import begin, commit, write_fragments
from espalier.config.faults import RefusedInput
from espalier.jobs.load import read_job
from espalier.kinds.export.work import export_stage
from espalier.planning.prepare import PreparedJob, prepare
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier.storage.local import LocalStorage
from espalier_cluster.resume import apply_resume, clear_resume_note
from framework.checkpoint.checkpoint_cases import SHAPES, cut, make_origin, make_tensors
from support.tiny import tiny_job, write_job

STAGES = {"parent": [0], "slim": [0], "heal": [2, 4, 6], "tune": [8], "score": []}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A run that is done."""
    stages = tiny_job(tmp_path)["stages"]
    place = next(place for place, one in enumerate(stages) if one["name"] == "heal")
    stages.insert(place + 1, {**stages[place], "name": "tune", "student": "heal"})
    path = write_job(tmp_path, stages=stages)
    plan = prepare(read_job(path)).plan
    storage = LocalStorage(tmp_path / "runs" / "tiny")
    for stage, steps in STAGES.items():
        storage.make_folder(f"stages/{stage}")
        result = StageResult(stage, plan[stage].config.kind, plan[stage].key, "done", None)
        RunFolder(storage.root).write_result(result)
        for step in steps:
            save(storage, f"stages/{stage}/step-{step:08d}", step=step, key=plan[stage].key)
    return path


def save(storage: LocalStorage, folder: str, *, step: int, key: str) -> None:
    begin(storage, folder, attempt=1)
    (held,) = cut(make_tensors(step), num_ranks=1)
    written = write_fragments(storage, folder, fragments=held, rank=0, attempt=1)
    origin = make_origin(step=step, attempt=1, num_ranks=1)
    commit(storage, folder, origin=origin, shapes=SHAPES, state={"key": key}, ranks=[written])


def prepared(job: Path, resume: str) -> tuple[PreparedJob, RunFolder]:
    found = prepare(read_job(job, [f"resume={resume}"]))
    return found, RunFolder.of(found.job)


def checkpoint(job: Path, step: int) -> str:
    return str(job.parent / "runs" / "tiny" / "stages" / "heal" / f"step-{step:08d}")


def left(folder: RunFolder) -> set[str]:
    return {str(path.relative_to(folder.path / "stages")) for path in folder.path.glob("stages/*/*")}


def test_resume_auto_removes_nothing(job: Path) -> None:
    run, folder = prepared(job, "auto")
    before = left(folder)
    apply_resume(run, folder)
    assert left(folder) == before


def test_resume_never_removes_everything(job: Path) -> None:
    run, folder = prepared(job, "never")
    apply_resume(run, folder)
    assert left(folder) == set()


def test_resume_from_a_checkpoint_removes_newer_ones_and_dependent_stages(job: Path) -> None:
    run, folder = prepared(job, checkpoint(job, 4))
    apply_resume(run, folder)
    assert left(folder) == {
        "parent/result.json",
        "parent/step-00000000",
        "slim/result.json",
        "slim/step-00000000",
        "heal/step-00000002",
        "heal/step-00000004",
    }


@pytest.mark.parametrize("damage", ["uncommitted", "damaged", "missing"])
def test_a_checkpoint_that_cannot_be_used_is_refused_and_nothing_is_removed(job: Path, damage: str) -> None:
    place = Path(checkpoint(job, 4))
    run, folder = prepared(job, str(place))
    if damage == "missing":
        shutil.rmtree(place)
    elif damage == "uncommitted":
        (place / "manifest.json").unlink()
    else:
        file = next(place.glob("*.safetensors"))
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    before = left(folder)
    with pytest.raises(RefusedInput, match="one that is whole"):
        apply_resume(run, folder)
    assert left(folder) == before


@pytest.mark.parametrize("resume", ["never", "a checkpoint"])
def test_the_same_command_applies_resume_once_until_the_run_has_ended(job: Path, resume: str) -> None:
    run, folder = prepared(job, resume if resume == "never" else checkpoint(job, 4))
    newer = "stages/heal/step-00000006"
    apply_resume(run, folder)
    storage, key = LocalStorage(folder.path), run.plan["heal"].key
    save(storage, newer, step=6, key=key)
    apply_resume(run, folder)  # it was stopped and goes on
    assert storage.exists(newer)
    clear_resume_note(folder)
    if resume == "never":
        apply_resume(run, folder)
        assert not storage.exists(newer)


def test_another_runs_checkpoint_is_refused_and_nothing_is_removed(job: Path) -> None:
    other = job.parent / "elsewhere" / "stages" / "heal" / "step-00000004"
    other.mkdir(parents=True)
    run, folder = prepared(job, str(other))
    before = left(folder)
    with pytest.raises(RefusedInput, match="a checkpoint of this run"):
        apply_resume(run, folder)
    assert left(folder) == before


def test_export_names_the_stages_that_have_a_model(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match="has none yet"):
        export_stage(tmp_path, "heal", tmp_path / "out", dtype="float32")
