"""A run whose loaded model stays where it was published: the same bits, no copy, and a sentence when it has changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from espalier.checkpoint.manifest_file import load_manifest
from espalier.distributed.world import World
from espalier.jobs.load import read_job
from espalier.kinds.load.kind import LoadStage, refers
from espalier.planning.prepare import prepare
from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.stages.run_folder import RunFolder
from espalier.storage.local import LocalStorage
from espalier.worker.context import StageContext
from espalier.worker.run_stage import run_stage
from support.spawn import run_ranks
from support.tiny import tiny_job, write_job
from support.whole_run import run_job

PARENT, HEALED = "stages/parent/step-00000000", "stages/heal/step-00000006"


def write(root: Path, weights: str, *, workers: int = 1, **heal: Any) -> Path:
    stages = tiny_job(root)["stages"]
    stages[0] |= {"weights": weights}
    stages[2] |= heal
    return write_job(root, stages=stages, workers={"count": workers})


def both(world: World, root: str) -> None:
    """Two workers train a part of the loaded model itself, and read their own runs of its tensors."""
    for weights in ("copy", "refer"):
        job = Path(root, weights, "job.yaml")
        if world.is_rank_zero:
            job.parent.mkdir()
            levels = {"zero_level": "parameters", "teacher_zero_level": "parameters"}
            part = {"student": "parent", "teacher": "slim", "tune": {"only": ["*norm*"]}}
            write(job.parent, weights, workers=world.size, **levels, **part)
        world.barrier()
        run_job(world, str(job))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    run_ranks(both, 2, str(root))
    return {weights: root / weights / "runs" / "tiny" for weights in ("copy", "refer")}


def test_it_comes_to_the_same_bits(runs: dict[str, Path]) -> None:
    ends = [load_manifest(LocalStorage(run), HEALED) for run in runs.values()]
    assert ends[0].files == ends[1].files and [base.folder for base in ends[1].bases] == [PARENT]
    exports = [(run / "exports/out/model.safetensors").read_bytes() for run in runs.values()]
    assert exports[0] == exports[1]


def test_nothing_was_copied(runs: dict[str, Path]) -> None:
    assert len(list((runs["copy"] / PARENT).iterdir())) == 2
    assert [path.name for path in (runs["refer"] / PARENT).iterdir()] == ["manifest.json"]


def test_the_setting_alters_no_key_and_the_plan_knows_the_room(tmp_path: Path) -> None:
    job = write(tmp_path, "auto")
    plans = {
        weights: prepare(read_job(job, [f"stages.parent.weights={weights}"])) for weights in ("auto", "copy", "refer")
    }
    assert len({tuple(stage.key for stage in one.plan.stages) for one in plans.values()}) == 1
    kept = {weights: one.previews[0].bytes_on_disk for weights, one in plans.items()}
    assert kept["refer"] == 0 < kept["copy"] == kept["auto"]


@pytest.mark.parametrize(
    ("weights", "num_bytes", "checkpoints", "expected"),
    [
        ("auto", 2**29, None, True),
        ("auto", 2**29 - 1, None, False),
        ("auto", 2**40, "s3://states", False),
        ("refer", 1, "s3://states", True),
        ("copy", 2**40, None, False),
    ],
)
def test_what_auto_does(weights: str, num_bytes: int, checkpoints: str | None, expected: bool) -> None:
    stage = LoadStage(name="parent", kind="load", model="/model", weights=weights)
    assert refers(stage, weight_bytes=num_bytes, checkpoints=checkpoints) is expected


@pytest.fixture
def loaded(tmp_path: Path) -> Path:
    """A run that has loaded and pruned its parent, and distils next."""
    prepared = prepare(read_job(write(tmp_path, "refer")))
    folder = RunFolder.of(prepared.job)
    prepared.write_down(folder)
    for number, stage in enumerate(("parent", "slim"), start=1):
        order(folder.path, stage, attempt=number)
    return folder.path


def order(folder: Path, stage: str, *, attempt: int) -> None:
    RunFolder(folder).note_attempt(attempt)
    run_stage(StageOrder(str(folder), stage, attempt), World.alone(), Control())


def test_a_published_file_that_has_changed_ends_the_stage_in_a_sentence(loaded: Path, tmp_path: Path) -> None:
    file = tmp_path / "model" / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    told = rf"published files in {tmp_path}/model: `model.safetensors` is not as it was written; bring that model back"
    with pytest.raises(StageFailed, match=told):
        order(loaded, "heal", attempt=3)
    file.write_bytes(whole)
    order(loaded, "heal", attempt=4)


@pytest.mark.parametrize(("local_rank", "expected"), [(0, ["model.safetensors"]), (1, [])])
def test_one_worker_of_each_host_hashes_its_published_files(
    loaded: Path, monkeypatch: pytest.MonkeyPatch, local_rank: int, expected: list[str]
) -> None:
    hashed: list[str] = []
    xxh3 = LocalStorage.xxh3
    monkeypatch.setattr(LocalStorage, "xxh3", lambda here, path: (hashed.append(Path(path).name), xxh3(here, path))[1])
    world = World(rank=1, size=2, device=torch.device("cpu"), local_rank=local_rank)
    context = StageContext.open(StageOrder(str(loaded), "heal", 3), world, Control())
    for stage in ("parent", "slim"):  # slim holds its own values, which rank zero hashes
        reader = context.model_of(stage)
        reader.tensor("parameter", reader.names("parameter")[0])
    assert hashed == expected


def test_a_run_that_was_moved_still_finds_it(loaded: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "tiny"
    shutil.copytree(loaded.parent / ".cache", moved.parent / ".cache")
    shutil.move(loaded, moved)
    job = json.loads((moved / "job.json").read_text())
    (moved / "job.json").write_text(json.dumps(job | {"storage": str(moved.parent)}))
    order(moved, "heal", attempt=3)
