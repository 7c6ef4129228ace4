"""Folders and files that no run has made are refused and left as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from espalier.checkpoint.places import claim_states
from espalier.checkpoint.steps import retain
from espalier.checkpoint.write import begin
from espalier.config.faults import RefusedInput
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from espalier.stages.ownership import claim, require_own
from espalier.stages.run_folder import RunFolder
from espalier.storage.local import LocalStorage
from espalier_cluster.command import app
from espalier_cluster.resume import apply_resume, refuse_exports
from framework.checkpoint.checkpoint_cases import cut, make_tensors, save_ranks
from support.tiny import write_job

VERSIONS = {"espalier": "0.1.0"}


def tree(root: Path) -> dict[str, object]:
    """All below `root`: what it is, what it holds, when it was changed."""
    return {
        str(path.relative_to(root)): path.readlink()
        if path.is_symlink()
        else (path.lstat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_job(tmp_path_factory.mktemp("job"))


def of_somebody(folder: Path) -> None:
    for name in ("records/2024.csv", "exports/thesis.txt", "stages/one/notes", "job.json", "report.html"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")


def of_another_program(folder: Path) -> None:
    of_somebody(folder)
    (folder / "run.json").write_text('{"run_id": "r1", "loss": 0.3}')


def with_ids_alone(folder: Path) -> None:
    of_somebody(folder)
    (folder / "run.json").write_text('{"run_id": "r1", "wandb_id": "w1"}')


def with_a_lock_of_its_own(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "lock").write_text("1234")


def a_file(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("mine")


@pytest.mark.parametrize("resume", ["auto", "never"])
@pytest.mark.parametrize("plant", [of_somebody, of_another_program, with_ids_alone, with_a_lock_of_its_own, a_file])
def test_a_folder_that_no_run_has_made_is_refused(
    job: Path, tmp_path: Path, plant: Callable[[Path], None], resume: str
) -> None:
    plant(tmp_path / "runs" / "tiny")
    before = tree(tmp_path)
    options = ["--in-process", f"storage={tmp_path}/runs", f"resume={resume}"]
    outcome = CliRunner().invoke(app, ["run", str(job), *options])
    assert isinstance(outcome.exception, RefusedInput), outcome.output
    assert f"{tmp_path}/runs/tiny" in str(outcome.exception) and len(outcome.exception.faults) == 1
    assert tree(tmp_path) == before


def test_seeds_are_run_in_a_folder_of_a_run_only(job: Path, tmp_path: Path) -> None:
    of_somebody(tmp_path / "runs" / "tiny")
    before = tree(tmp_path)
    options = ["--in-process", f"storage={tmp_path}/runs", "seeds=2"]
    assert isinstance(CliRunner().invoke(app, ["run", str(job), *options]).exception, RefusedInput)
    assert tree(tmp_path) == before


def test_a_folder_that_is_empty_or_that_a_killed_start_left_is_taken(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    require_own(RunFolder(tmp_path / "none"))
    require_own(folder)
    (tmp_path / "lock").write_text('{"token": "0", "pid": 3, "job": "j"}')
    (tmp_path / f"lock.{'0' * 32}").touch()
    (tmp_path / "run.json.0badcafe.unfinished").write_text("{")
    require_own(folder)
    run_id = claim(folder, versions=VERSIONS)
    (tmp_path / "job.json").touch()
    require_own(folder)
    assert claim(folder, versions=VERSIONS) == run_id


def test_runs_of_several_seeds_of_an_espalier_that_did_not_mark_their_folder_go_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "tiny")
    claim(RunFolder(folder.path / "tiny-seed-3"), versions=VERSIONS)
    for name in ("tiny-seed-3.json", "tiny-seed-3.log", "seeds.json"):
        (folder.path / name).touch()
    require_own(folder)
    (folder.path / "thesis.txt").touch()
    with pytest.raises(RefusedInput):
        require_own(folder)


STEP = "stages/heal/step-00000004"


def run_of(job: Path, storage: Path) -> RunFolder:
    """A run's folder with a checkpoint, records and an export."""
    folder = RunFolder(storage / "tiny")
    claim(folder, versions=VERSIONS)
    for name in ("records/steps.jsonl", "records/samples/heal/epoch-0001.parquet", "stages/heal/result.json"):
        folder.files.make_folder(Path(name).parent.as_posix())
        (folder.path / name).touch()
    save_ranks(folder.files, STEP, ranks=cut(make_tensors(3), num_ranks=1), step=4)
    return folder


def never(job: Path, storage: Path) -> None:
    prepared = prepare(read_job(job, [f"storage={storage}", "resume=never"]))
    apply_resume(prepared, RunFolder.of(prepared.job))


STRANGE = [
    "stages/notes.txt",
    "stages/My model/weights.bin",
    "stages/heal/notes.md",
    f"{STEP}/optimizer.pt",
    "records/steps.csv",
    "records/samples/heal/mine.parquet",
    "records/samples/mine/2024/epoch-0001.parquet",
    "exports/notes.txt",
    "exports/out/config.json",
    "exports/out.0badcafe.unfinished/thesis.txt",
]


@pytest.mark.parametrize("name", STRANGE)
def test_beginning_anew_removes_nothing_that_the_run_has_not_made(job: Path, tmp_path: Path, name: str) -> None:
    folder = run_of(job, tmp_path)
    (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
    (folder.path / name).write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(RefusedInput, match=name.split("/")[0]):
        never(job, tmp_path)
    assert tree(tmp_path) == before
    (folder.path / name).unlink()
    for parent in (folder.path / name).relative_to(folder.path).parents:
        if parent.parts and not any((folder.path / parent).iterdir()):
            (folder.path / parent).rmdir()
    ids = folder.ids()
    never(job, tmp_path)
    assert not any((folder.path / made).exists() for made in ("stages", "records", "exports"))
    assert folder.ids()["run_id"] == ids["run_id"] and folder.ids()["wandb_id"] != ids["wandb_id"]


def test_a_link_below_a_run_is_not_followed_when_it_begins_anew(job: Path, tmp_path: Path) -> None:
    folder = run_of(job, tmp_path / "runs")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("long")
    (folder.path / "stages" / "slim").symlink_to(tmp_path / "mine")
    with pytest.raises(RefusedInput, match="slim"):
        never(job, tmp_path / "runs")
    assert (tmp_path / "mine" / "thesis.txt").exists() and (folder.path / STEP).exists()


def test_what_somebody_put_into_a_checkpoint_outlives_it(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for step in (1, 2):
        save_ranks(storage, f"stages/heal/step-{step:08d}", ranks=cut(make_tensors(3), num_ranks=1), step=step)
        (tmp_path / f"stages/heal/step-{step:08d}" / "notes.txt").write_text("mine")
    retain(storage, "stages/heal", keep_latest=1)
    assert storage.list("stages/heal/step-00000001") == ("notes.txt",)
    begin(storage, "stages/heal/step-00000002", attempt=1)
    assert storage.list("stages/heal/step-00000002") == ("notes.txt",)


def test_an_export_that_somebody_has_changed_is_named_before_anything_starts(job: Path, tmp_path: Path) -> None:
    folder = run_of(job, tmp_path)
    folder.files.make_folder("exports/out")
    (folder.path / "exports/out/notes.txt").write_text("mine")
    prepared = prepare(read_job(job, [f"storage={tmp_path}"]))
    with pytest.raises(RefusedInput, match=r"notes\.txt"):
        refuse_exports(prepared, folder)
    outcome = CliRunner().invoke(app, ["plan", str(job), f"storage={tmp_path}"])
    assert isinstance(outcome.exception, RefusedInput) and "exports/out" in str(outcome.exception)


def elsewhere(job: Path, tmp_path: Path, run_id: str) -> None:
    asked = read_job(job, [f"checkpoints={tmp_path}/states"])
    claim_states(LocalStorage(tmp_path / "states" / "tiny"), asked, run_id=run_id)


def test_a_place_for_states_is_one_runs(job: Path, tmp_path: Path) -> None:
    elsewhere(job, tmp_path, "0a")
    elsewhere(job, tmp_path, "0a")
    with pytest.raises(RefusedInput, match="another run"):
        elsewhere(job, tmp_path, "0b")


@pytest.mark.parametrize("name", ["thesis.txt", "stages/heal/thesis.txt", f"{STEP}/manifest.json"])
def test_a_place_for_states_that_no_run_has_made_is_refused(job: Path, tmp_path: Path, name: str) -> None:
    place = tmp_path / "states" / "tiny" / name
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(RefusedInput, match="checkpoints"):
        elsewhere(job, tmp_path, "0a")
    assert tree(tmp_path) == before


def test_states_of_an_espalier_that_did_not_mark_their_place_go_on(job: Path, tmp_path: Path) -> None:
    from espalier.checkpoint.write import commit, write_fragments
    from framework.checkpoint.checkpoint_cases import SHAPES, make_origin

    storage = LocalStorage(tmp_path / "states" / "tiny")
    begin(storage, STEP, attempt=1)
    (held,) = cut(make_tensors(3), num_ranks=1)
    ranks = [write_fragments(storage, STEP, fragments=held, rank=0, attempt=1)]
    origin = make_origin(step=4, attempt=1, num_ranks=1)
    commit(storage, STEP, origin=origin, shapes=SHAPES, state={"run": {"run_id": "0a"}}, ranks=ranks)
    with pytest.raises(RefusedInput):
        elsewhere(job, tmp_path, "0b")
    elsewhere(job, tmp_path, "0a")
    assert json.loads((storage.root / "run.json").read_text())["run_id"] == "0a"
