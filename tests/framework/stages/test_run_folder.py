"""The small files of a run, and cleaning up after a kill."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from espalier.jobs.job import Job
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier.storage.contract import unfinished
from support.tiny import tiny_job

RESULT = StageResult("heal", "train", "key", "done", None)


def test_only_unfinished_files_of_a_kill_are_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    kept = [
        "job.json",
        "records/steps.jsonl",
        "stages/heal/result.json",
        "exports/x.unfinished/model",
        "child/job.json",
    ]
    others = [unfinished("child/job.json"), unfinished("stages/heal/step-00000001/manifest.json")]
    left = [unfinished(name) for name in ("job.json", "records/steps.jsonl", "stages/heal/result.json")]
    left += [f"{unfinished('tokenizers/abc')}/vocab.txt"]
    for name in (*kept, *others, *left):
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).touch()
    folder.tidy()
    files = {path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*") if path.is_file()}
    assert files == {*kept, *others}


def test_a_finished_stage_may_have_been_moved_away_with_a_link_left_behind(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.write_result(RESULT)
    (folder.path / "stages" / "heal").rename(tmp_path / "cold")
    (folder.path / "stages" / "heal").symlink_to(tmp_path / "cold")
    assert folder.result("heal") == RESULT and folder.results(["load", "heal"]) == {"heal": RESULT}


def test_missing_files_are_no_error(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "none")
    folder.tidy()
    folder.remove("stages")
    assert (folder.attempts(), folder.ids(), folder.result("heal")) == (0, {}, None)


@pytest.mark.parametrize(("shared_with", "mode"), [("nobody", 0o700), ("group", 0o750), ("everybody", 0o755)])
def test_a_run_folder_is_private_unless_the_job_shares_it(tmp_path: Path, shared_with: str, mode: int) -> None:
    job = Job.model_validate(tiny_job(tmp_path, shared_with=shared_with))
    folder = RunFolder.of(job)
    folder.make(job)
    assert folder.path.stat().st_mode & 0o777 == mode
    folder.path.chmod(0o711)  # by hand, for somebody
    folder.make(job)
    assert folder.path.stat().st_mode & 0o777 == 0o711


def test_text_that_another_user_has_tokenised_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "run")
    assert folder.cache == tmp_path / ".cache"
    folder.cache.mkdir()
    owner = os.getuid()
    assert folder.cache == tmp_path / ".cache"
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert folder.cache == tmp_path / f".cache-{owner + 1}"
