"""The small files of a run, and what a kill leaves among them."""

from __future__ import annotations

from pathlib import Path

from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier.storage.contract import unfinished

RESULT = StageResult("heal", "train", "key", "done", None)


def test_what_a_kill_leaves_is_taken_away_and_nothing_else(tmp_path: Path) -> None:
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


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "none")
    folder.tidy()
    folder.remove("stages")
    assert (folder.attempts(), folder.ids(), folder.result("heal")) == (0, {}, None)
