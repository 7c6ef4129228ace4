"""What the start of a stage reads and hashes: each state that gives values once, and no text that is known."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from espalier.config.faults import RefusedInput
from espalier.data import fingerprint
from espalier.distributed.world import World
from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.stages.run_folder import RunFolder
from espalier.storage.local import LocalStorage
from espalier.training import updates
from espalier.worker.context import StageContext
from espalier.worker.run_stage import run_stage
from support.tiny import write_job, write_text
from support.whole_run import plan_job


def run(folder: Path, stage: str, *, attempt: int = 1, control: Control | None = None) -> None:
    RunFolder(folder).note_attempt(attempt)
    run_stage(StageOrder(str(folder), stage, attempt), World.alone(), control or Control())


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose next stage distils."""
    root = tmp_path_factory.mktemp("ground")
    folder, _ = plan_job(World.alone(), str(write_job(root)))
    run(folder, "parent", attempt=1)
    run(folder, "slim", attempt=2)
    return root


@pytest.fixture
def folder(ground: Path, tmp_path: Path) -> Path:
    """A copy of it, planned where it lies."""
    shutil.copytree(ground, tmp_path, dirs_exist_ok=True)
    job = tmp_path / "job.yaml"
    job.write_text(job.read_text().replace(str(ground), str(tmp_path)))
    return plan_job(World.alone(), str(job))[0]


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How many files of each state were hashed, by its folder below `stages/`; each state has one file here."""
    found: Counter[str] = Counter()
    xxh3 = LocalStorage.xxh3

    def count(storage: LocalStorage, path: str) -> str:
        found[path.removeprefix("stages/").rpartition("/")[0]] += 1
        return xxh3(storage, path)

    monkeypatch.setattr(LocalStorage, "xxh3", count)
    return found


def stopped(folder: Path, monkeypatch: pytest.MonkeyPatch, *, at: int) -> None:
    """Distil, until somebody stops it after step `at`, which is saved."""
    control, take_step = Control(), updates.take_step

    def stop(*given: object, **settings: object) -> object:
        if settings["random"][1] + 1 == at:
            control.stop.set()
        return take_step(*given, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(updates, "take_step", stop)
        with pytest.raises(StageFailed, match=f"after step {at}"):
            run(folder, "heal", attempt=3, control=control)


def flip(folder: Path, state: str) -> None:
    (file,) = (folder / "stages" / state).glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def test_a_distillation_hashes_student_and_teacher_once(folder: Path, hashed: Counter[str]) -> None:
    run(folder, "heal", attempt=3)
    assert hashed == {"slim/step-00000000": 1, "parent/step-00000000": 1}


def test_one_that_goes_on_hashes_no_student(
    folder: Path, hashed: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(folder, monkeypatch, at=3)
    hashed.clear()
    flip(folder, "slim/step-00000000")  # nobody reads its values
    run(folder, "heal", attempt=4)
    assert hashed == {"heal/step-00000003": 1, "parent/step-00000000": 1}


def test_a_state_that_is_opened_again_is_not_hashed_again(folder: Path, hashed: Counter[str]) -> None:
    context = StageContext.open(StageOrder(str(folder), "heal", 3), World.alone(), Control())
    for _ in range(2):
        reader = context.model_of("parent")
        reader.tensor("parameter", reader.names("parameter")[0])
    assert hashed == {"parent/step-00000000": 1}


@pytest.mark.parametrize("stage", ["slim", "parent"])
def test_values_of_a_damaged_state_are_not_used(folder: Path, stage: str) -> None:
    flip(folder, f"{stage}/step-00000000")
    remedy = rf"stages/{stage}/.*is not as it was written; .*remove `stages/{stage}`"
    with pytest.raises(StageFailed, match=remedy) as failed:
        run(folder, "heal", attempt=3)
    assert failed.value.cause == "error" and not list((folder / "stages/heal").glob("step-*/manifest.json"))


def test_a_text_whose_tokens_are_kept_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> str:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(fingerprint, "digest_of", read)
    shutil.rmtree(folder.parent.parent / "text")
    run(folder, "heal", attempt=3)


def test_a_text_that_has_changed_since_the_plan_is_refused(folder: Path) -> None:
    shutil.rmtree(folder.parent / ".cache")
    write_text(folder.parent.parent / "text", num_words=221)
    with pytest.raises(RefusedInput, match=r"`data.train` has files that hold another text"):
        run(folder, "heal", attempt=3)


def test_a_plan_of_before_has_no_text_and_it_is_read(folder: Path) -> None:
    entries = json.loads((folder / "plan.json").read_text())
    for entry in entries:
        assert set(entry.pop("texts")) == {"train", "valid"}
    (folder / "plan.json").write_text(json.dumps(entries))
    run(folder, "heal", attempt=3)
