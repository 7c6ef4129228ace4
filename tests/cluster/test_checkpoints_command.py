"""`espalier checkpoint list`, `verify` and `show`, also while the run is going on."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from espalier.checkpoint.fragments import Fragment
from espalier.checkpoint.published_files import refer_to
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.write import begin, commit, write_fragments
from espalier.config.faults import Fault, RefusedInput
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier.storage.local import LocalStorage
from espalier_cluster.checkpoints import examine, find_checkpoints
from espalier_cluster.command import app
from framework.checkpoint.checkpoint_cases import SHAPES, cut, make_origin, make_tensors, save_ranks

STEP = "stages/heal/step-{:08d}"
NUM_VALUES = 5 * 7 + 11 + 1
EVIL = "\x1b[2J[red]x"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Stages slim (done) and heal: steps 5 and 10 committed, a save of step 15 under way; `out` has not begun."""
    root = tmp_path / "run"
    root.mkdir()
    (root / "plan.json").write_text(json.dumps([{"name": name} for name in ("slim", "heal", "out")]))
    storage = LocalStorage(root)
    save_slim(storage)
    for step in (5, 10):
        save_ranks(storage, STEP.format(step), ranks=cut(make_tensors(step), num_ranks=3), step=step, attempt=step)
    begin(storage, STEP.format(15), attempt=11)
    (root / STEP.format(15) / "attempt-0011-rank-00000-0000.safetensors").write_bytes(b"x" * 13)
    (root / "stages/heal/notes").mkdir()
    return root


def save_slim(storage: LocalStorage) -> None:
    folder = "stages/slim/step-00000000"
    begin(storage, folder, attempt=2)
    (fragments,) = cut(make_tensors(3, slots=("parameter",)), num_ranks=1)
    ranks = [write_fragments(storage, folder, fragments=fragments, rank=0, attempt=2)]
    origin = make_origin(step=0, attempt=2, num_ranks=1)
    changes = {
        "stage": "slim",
        "parent": "stages/gone/step-00000000",
        "created_unix_seconds": 1.75e9,
        "model": {"hidden_size": EVIL},
    }
    origin = origin.model_copy(update=changes)
    commit(storage, folder, origin=origin, shapes=SHAPES, state={"said": EVIL}, ranks=ranks)
    RunFolder(storage.root).write_result(StageResult("slim", "prune", "k", "done", folder))


def espalier(*words: object, code: int = 0) -> str:
    outcome = CliRunner().invoke(app, ["checkpoint", *map(str, words)])
    assert outcome.exit_code == code, outcome.output
    return outcome.output


def refused(*words: object) -> str:
    outcome = CliRunner().invoke(app, ["checkpoint", *map(str, words)])
    assert isinstance(outcome.exception, RefusedInput), outcome.output
    return str(outcome.exception)


def rows(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines() if line.split()[:1] in (["slim"], ["heal"])]


def flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def files_of(run: Path, step: int) -> list[Path]:
    return sorted((run / STEP.format(step)).glob("*.safetensors"))


def test_list_tells_each_checkpoint_in_the_plans_order(run: Path) -> None:
    slim, first, second, begun = rows(espalier("list", run))
    assert slim[:2] == ["slim", "0"] and slim[2].startswith("2025-06-1")
    assert " ".join(slim).endswith(" 2 committed, kept as the stage's result")
    size = sum(path.stat().st_size for path in files_of(run, 5)) / 1024
    assert first[:2] == ["heal", "5"] and first[4:] == ["3", "gradients", f"{size:.2f}", "KiB", "5", "committed"]
    assert second[:2] == ["heal", "10"] and second[-2:] == ["10", "committed"]
    assert begun == ["heal", "15", "13", "B", "uncommitted"]


def test_a_run_without_checkpoints_lists_none(run: Path) -> None:
    shutil.rmtree(run / "stages")
    assert espalier("list", run) == espalier("verify", run) == "no checkpoints yet\n"


def test_verify_finds_all_whole(run: Path) -> None:
    lines = espalier("verify", run).splitlines()
    assert lines == [
        "stages/slim/step-00000000: whole",
        "stages/heal/step-00000005: whole",
        "stages/heal/step-00000010: whole",
        "stages/heal/step-00000015: uncommitted",
        "3 whole, 1 uncommitted",
    ]


def test_published_files_that_a_state_refers_to(run: Path, tmp_path: Path) -> None:
    storage, model, folder = LocalStorage(run), tmp_path / "model", "stages/slim/step-00000001"
    model.mkdir()
    save_file({name: torch.ones(shape) for name, shape in SHAPES.items()}, model / "model.safetensors")
    published = refer_to(model, {name: ("model.safetensors", name, "float32") for name in SHAPES})
    begin(storage, folder, attempt=3)
    ranks = [write_fragments(storage, folder, fragments=[], rank=0, attempt=3)]
    origin = make_origin(step=1, attempt=3, num_ranks=1)
    commit(storage, folder, origin=origin, shapes=SHAPES, state={}, ranks=ranks, published=published)
    output = espalier("show", run / folder)
    assert f"3 parameters are in published files in {model}" in output
    assert published.files["model.safetensors"].xxh3 in output
    assert f"{folder}: whole" in espalier("verify", run).splitlines()
    flip_last_byte(model / "model.safetensors")
    told = f"{folder}: damaged (it refers to the published files in {model}: `model.safetensors` is not as it was"
    assert told in espalier("verify", run, code=1)


def test_verify_names_every_damaged_file_and_its_cause(run: Path) -> None:
    flipped, cut_off, missing = files_of(run, 5)
    flip_last_byte(flipped)
    num_bytes = cut_off.stat().st_size
    cut_off.write_bytes(cut_off.read_bytes()[:-7])
    missing.unlink()
    (unreadable, linked, _) = files_of(run, 10)
    unreadable.unlink()
    unreadable.mkdir()
    linked.unlink()
    linked.symlink_to("/etc/hostname")
    output = espalier("verify", run, "--stage", "heal", code=1)
    line, other = output.splitlines()[:2]
    assert f"{STEP.format(5)}: damaged (`{flipped.name}` is not as it was written; " in line
    assert (
        f"`{cut_off.name}` has {num_bytes - 7} bytes where {num_bytes} were written; `{missing.name}` is missing"
        in line
    )
    assert f"{STEP.format(10)}: damaged (`{unreadable.name}` " in other
    assert f"`{linked.name}` is a link that leaves the run" in other
    assert "slim" not in output and output.splitlines()[-1] == "2 damaged, 1 uncommitted"


def save_part(run: Path) -> str:
    """A state of stage `out` that holds one parameter and stands on slim's for the others."""
    storage, folder = LocalStorage(run), "stages/out/step-00000002"
    begin(storage, folder, attempt=1)
    held = [Fragment("parameter", "body.bias", 0, torch.zeros(11))]
    ranks = [write_fragments(storage, folder, fragments=held, rank=0, attempt=1)]
    bases = StateReader.open(storage, "stages/slim/step-00000000").bases_without(["body.bias"])
    origin = make_origin(step=2, attempt=1, num_ranks=1)
    commit(storage, folder, origin=origin, shapes=SHAPES, state={}, ranks=ranks, bases=bases)
    return folder


def test_verify_and_show_look_at_what_a_checkpoint_stands_on(run: Path) -> None:
    folder = save_part(run)
    assert f"{folder}: whole" in espalier("verify", run, "--stage", "out")
    assert "2 parameters were not trained and are in stages/slim/step-00000000" in espalier("show", run / folder)
    (file,) = sorted((run / "stages/slim/step-00000000").glob("*.safetensors"))
    flip_last_byte(file)
    output = espalier("verify", run, "--stage", "out", code=1)
    assert f"it stands on `stages/slim/step-00000000`: `{file.name}` is not as it was written" in output
    shutil.rmtree(run / "stages/slim")
    assert f"{folder}: damaged (it stands on `stages/slim" in espalier("verify", run, "--stage", "out", code=1)


def test_a_damaged_manifest_and_a_foreign_step_are_damage(run: Path) -> None:
    path = run / STEP.format(5) / "manifest.json"
    path.write_text(path.read_text().replace('"attempt":5', '"attempt":6'))
    shutil.copytree(run / STEP.format(10), run / STEP.format(13))
    assert " ".join(rows(espalier("list", run))[1]).endswith("B damaged: `manifest.json` is not as it was written")
    lines = espalier("verify", run, code=1).splitlines()
    assert f"{STEP.format(5)}: damaged (`manifest.json` is not as it was written)" in lines
    assert f"{STEP.format(13)}: damaged (it is of step 10)" in lines


def test_a_file_that_the_disk_does_not_give_is_damage(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: LocalStorage, path: str) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(LocalStorage, "xxh3", broken)
    output = espalier("verify", run, "--stage", "slim", code=1)
    assert "damaged (`attempt-0002-rank-00000-0000.safetensors` cannot be read: Input/output error)" in output


def test_a_manifest_that_is_a_link_to_itself_is_damage(run: Path) -> None:
    manifest = run / STEP.format(10) / "manifest.json"
    manifest.unlink()
    manifest.symlink_to(manifest.name)
    assert "cannot be read" in " ".join(espalier("list", run).split())
    espalier("verify", run, code=1)


def test_progress_is_reported_in_bytes_as_files_are_hashed(run: Path) -> None:
    found = find_checkpoints(run, stage="heal")[0]
    told: list[int] = []
    assert examine(LocalStorage(run), found, on_bytes=told.append, known={}).state == "whole"
    assert told == [path.stat().st_size for path in files_of(run, 5)]


@pytest.mark.parametrize("how", ["removed", "being removed", "written anew"])
def test_a_checkpoint_that_vanishes_meanwhile_is_no_damage(run: Path, how: str) -> None:
    found = find_checkpoints(run, stage="heal")[0]
    if how == "removed":
        shutil.rmtree(run / found.folder)
    elif how == "being removed":
        (run / found.folder / "manifest.json").unlink()
        files_of(run, 5)[0].unlink()
    else:
        save_ranks(
            LocalStorage(run), found.folder, ranks=cut(make_tensors(23), num_ranks=2), step=found.step, attempt=23
        )
    assert examine(LocalStorage(run), found, on_bytes=lambda count: None, known={}).state == "gone"


def test_a_checkpoint_that_vanishes_while_it_is_listed_is_left_out(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = LocalStorage.list
    monkeypatch.setattr(LocalStorage, "list", lambda self, path: (*names(self, path), "step-00000007"))
    assert [one.step for one in find_checkpoints(run, stage="heal")] == [5, 10, 15]


def test_show_tells_what_a_checkpoint_holds(run: Path) -> None:
    output = espalier("show", run / STEP.format(10))
    lines = [line.split() for line in output.splitlines()]
    for slot in ("parameter", "exp_avg", "exp_avg_sq"):
        assert [slot, "3", f"{NUM_VALUES}", "3", "float32"] in lines
    assert all(path.name in output for path in files_of(run, 10))
    assert json.loads(output.split("state: ")[1]) == {"position": 30, "streams": {"order": [1, 2]}}
    assert '"hidden_size": 7' in output


def test_show_follows_the_lineage_as_far_as_it_is_there(run: Path) -> None:
    storage = LocalStorage(run)
    (fragments,) = cut(make_tensors(7), num_ranks=1)
    begin(storage, STEP.format(20), attempt=12)
    ranks = [write_fragments(storage, STEP.format(20), fragments=fragments, rank=0, attempt=12)]
    origin = make_origin(step=20, attempt=12, num_ranks=1).model_copy(update={"parent": "stages/slim/step-00000000"})
    commit(storage, STEP.format(20), origin=origin, shapes=SHAPES, state={}, ranks=ranks)
    output = espalier("show", run / STEP.format(20))
    near, far = [line for line in output.splitlines() if line.startswith("from ")]
    assert near.startswith("from stages/slim/step-00000000: 2025-06-1") and near.endswith("attempt 2")
    assert far == "from stages/gone/step-00000000, which is no longer there or cannot be used"


def test_control_characters_in_a_checkpoint_do_not_reach_the_terminal(run: Path) -> None:
    output = espalier("show", run / "stages/slim/step-00000000")
    assert "\x1b" not in output and output.count("[2J[red]x") == 2  # in a table, and in the state


def test_what_is_no_run_no_stage_or_no_checkpoint_is_refused(run: Path) -> None:
    assert "the folder of a run" in refused("list", run.parent)
    assert "Did you mean `heal`?" in refused("verify", run, "--stage", "heel")
    assert espalier("verify", run, "--stage", "out") == "no checkpoints yet\n"
    assert "never committed" in refused("show", run / STEP.format(15))
    assert "never committed" in refused("show", run / "nowhere")
    flip_last_byte(run / STEP.format(5) / "manifest.json")
    assert "is no manifest" in refused("show", run / STEP.format(5))


def test_damaged_files_of_the_run_hide_no_checkpoint(run: Path) -> None:
    (run / "plan.json").write_text("[{")
    (run / "stages/slim/result.json").write_text("")
    assert [one.stage for one in find_checkpoints(run)] == ["heal", "heal", "heal", "slim"]


def test_checkpoint_commands_do_not_import_torch(run: Path) -> None:
    code = (
        "import sys; from espalier_cluster.command import app; "
        f"app(['checkpoint', 'verify', {str(run)!r}], standalone_mode=False); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_a_checkpoint_of_tables_alone_is_shown(tmp_path: Path) -> None:
    """Predictions of fold models; no model goes with them."""
    storage, folder = LocalStorage(tmp_path / "run"), "stages/twins/step-00000004"
    begin(storage, folder, attempt=1)
    held = [Fragment("table", "answers", 0, torch.zeros(6))]
    written = write_fragments(storage, folder, fragments=held, rank=0, attempt=1)
    origin, tables = make_origin(step=4, attempt=1, num_ranks=1), {"answers": (3, 2)}
    commit(storage, folder, origin=origin, shapes={}, state={}, ranks=[written], tables=tables)
    assert "table" in espalier("show", tmp_path / "run" / folder)


def test_states_elsewhere_that_cannot_be_reached_are_not_called_none(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise RefusedInput([Fault("checkpoints", "s3://", "a store whose library is installed")])

    monkeypatch.setattr("espalier_cluster.checkpoints.state_storage", refuse)
    monkeypatch.setattr("espalier.stages.run_folder.RunFolder.read_job", lambda folder: None)
    with pytest.raises(RefusedInput, match="library"):
        find_checkpoints(run)


@pytest.mark.parametrize("folder", ["/", "/nowhere", "/nowhere/step-00000001"])
def test_a_folder_that_lies_in_no_run_is_refused(folder: str) -> None:
    outcome = CliRunner().invoke(app, ["checkpoint", "show", folder])
    assert isinstance(outcome.exception, RefusedInput) and "<run>/stages" in str(outcome.exception)
