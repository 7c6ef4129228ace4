"""Invalid input gives one sentence with setting and remedy and exit code 2, and starts nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from espalier.checkpoint.lock import RunLock
from espalier.config.faults import RefusedInput
from espalier.models.families import layout
from espalier_cluster.command import app
from support.tiny import byte_tokenizer, tiny_job, write_job, write_model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refused")
    write_job(folder)
    write_model(folder / "other-words", vocab_size=300)
    return folder


Change = Callable[[dict[str, Any], Path], None]


def unknown_key(job: dict[str, Any], root: Path) -> None:
    job["stages"][2]["optimzer"] = job["stages"][2].pop("optimizer")


def wrong_type(job: dict[str, Any], root: Path) -> None:
    job["stages"][2]["optimizer"]["lr"] = "fast"


def wrong_stage(job: dict[str, Any], root: Path) -> None:
    job["stages"][2]["student"] = "slimm"


def cycle(job: dict[str, Any], root: Path) -> None:
    job["stages"][1]["student"] = "heal"


def missing_file(job: dict[str, Any], root: Path) -> None:
    job["data"]["train"]["files"] = [str(root / "nowhere" / "*.txt")]


def empty_text(job: dict[str, Any], root: Path) -> None:
    (root / "empty.txt").write_text("")
    job["data"]["train"]["files"] = [str(root / "empty.txt")]


def other_vocabulary(job: dict[str, Any], root: Path) -> None:
    job["stages"].append({"name": "stranger", "kind": "load", "model": str(root / "other-words")})
    job["stages"][2]["teacher"] = "stranger"


def larger_than_parent(job: dict[str, Any], root: Path) -> None:
    job["stages"][1]["target"] = {"ffn": 54}


def heads_that_do_not_divide(job: dict[str, Any], root: Path) -> None:
    job["stages"][1]["target"] = {"heads": 5}


def pickled_weights(job: dict[str, Any], root: Path) -> None:
    folder = root / "pickled"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text((root / "model" / "config.json").read_text())
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    job["stages"][0]["model"] = str(folder)


def code_of_its_own(job: dict[str, Any], root: Path) -> None:
    folder = root / "auto-map"
    folder.mkdir(exist_ok=True)
    config = json.loads((root / "model" / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    job["stages"][0]["model"] = str(folder)


def no_room(job: dict[str, Any], root: Path) -> None:
    job["stages"][0] |= {"model": str(huge(root)), "weights": "copy"}  # what is referred to takes no room


def storage_that_cannot_be_written(job: dict[str, Any], root: Path) -> None:
    job["storage"] = "/proc/nowhere"


def uneven_batch(job: dict[str, Any], root: Path) -> None:
    job["workers"]["count"] = 3


def huge(root: Path) -> Path:
    """A model folder whose one file is larger than any disk: a header, and then nothing but a hole."""
    folder, ffn = root / "huge", 2 * 10**9
    folder.mkdir(exist_ok=True)
    config = json.loads((root / "model" / "config.json").read_text()) | {"intermediate_size": ffn}
    (folder / "config.json").write_text(json.dumps(config))
    header, end = {}, 0
    for name, parameter in layout(config).items():
        begin, end = end, end + 2 * parameter.num_elements
        header[name] = {"dtype": "BF16", "shape": parameter.shape, "data_offsets": [begin, end]}
    written = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(written).to_bytes(8, "little") + written)
        file.truncate(8 + len(written) + end)
    byte_tokenizer().save_pretrained(folder)
    return folder


CASES: list[tuple[Change, list[str]]] = [
    (unknown_key, ["stages.heal.optimzer", "optimizer"]),
    (wrong_type, ["stages.heal.optimizer.lr", "fast", "number"]),
    (wrong_stage, ["stages.heal.student", "slimm", "Did you mean `slim`"]),
    (cycle, ["slim", "heal"]),
    (missing_file, ["data.train.files", "nowhere"]),
    (empty_text, ["data.train.files", "empty"]),
    (other_vocabulary, ["stages.heal.teacher", "vocabulary", "300"]),
    (larger_than_parent, ["stages.slim.target.ffn", "54"]),
    (heads_that_do_not_divide, ["stages.slim.target.heads", "5"]),
    (pickled_weights, ["stages.parent.model", "pytorch_model.bin", "save_pretrained"]),
    (code_of_its_own, ["auto_map"]),
    (no_room, ["storage", "GiB free"]),
    (storage_that_cannot_be_written, ["storage", "/proc cannot be"]),
    (uneven_batch, ["stages.heal.batch", "multiple"]),
]


@pytest.mark.parametrize("change", [wrong_stage, cycle])
def test_a_graph_that_cannot_be_is_no_valid_job(root: Path, change: Change) -> None:
    job = tiny_job(root)
    change(job, root)
    path = root / f"{change.__name__}.yaml"
    path.write_text(yaml.safe_dump(job))
    said = [CliRunner().invoke(app, [command, str(path)]).exception for command in ("validate", "plan")]
    assert isinstance(said[0], RefusedInput) and said[0].faults == said[1].faults


def test_dials_that_make_no_graph_are_no_valid_job(root: Path) -> None:
    trained = {"budget": {"steps": 9}, "batch": {"sequences": 4}, "depths": [1, 2, 3], "boundaries": [0.5, 0.5]}
    shape = {"family": "llama", "layers": 3, "hidden": 16, "heads": 2, "train_tokenizer": {"vocabulary": 300}}
    job = tiny_job(root, recipe={"name": "progressive_growth", "from_scratch": shape, **trained})
    del job["stages"]
    path = root / "dials.yaml"
    path.write_text(yaml.safe_dump(job))
    outcome = CliRunner().invoke(app, ["validate", str(path)])
    assert isinstance(outcome.exception, RefusedInput) and "recipe.boundaries" in str(outcome.exception)


def test_validate_is_quick(root: Path) -> None:
    path = root / "quick.yaml"
    path.write_text(yaml.safe_dump(tiny_job(root)))
    code = f"""
import sys
from typer.testing import CliRunner
from espalier.models.families import layout
from espalier_cluster.command import app
assert CliRunner().invoke(app, ["validate", {str(path)!r}]).exit_code == 0
sys.exit(bool({{"torch", "transformers", "datasets", "ray", "pyarrow"}} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("change", "words"), CASES, ids=[change.__name__ for change, _ in CASES])
@pytest.mark.parametrize("command", ["plan", "run"])
def test_is_refused(root: Path, change: Change, words: list[str], command: str) -> None:
    job = tiny_job(root)
    change(job, root)
    path = root / f"{change.__name__}.yaml"
    path.write_text(yaml.safe_dump(job))
    outcome = CliRunner().invoke(app, [command, str(path)])
    assert isinstance(outcome.exception, RefusedInput), outcome.output
    text = str(outcome.exception)
    assert all(word in text for word in words), text
    assert not (root / "runs").exists(), "something was started"
    assert all(len(str(fault)) < 400 and "\n" not in str(fault) for fault in outcome.exception.faults)


def test_a_run_that_another_process_holds(root: Path) -> None:
    path = root / "held.yaml"
    path.write_text(yaml.safe_dump(tiny_job(root, name="held")))
    folder = root / "runs" / "held"
    folder.mkdir(parents=True)
    with RunLock(folder / "lock", job="held"):
        outcome = CliRunner().invoke(app, ["run", str(path), "--in-process"])
    shutil.rmtree(root / "runs")
    assert isinstance(outcome.exception, RefusedInput), outcome.output
    assert "held" in str(outcome.exception) and str(os.getpid()) in str(outcome.exception)


def test_a_report_of_what_is_no_run(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["report", str(tmp_path / "nowhere")])
    assert isinstance(outcome.exception, RefusedInput) and "plan.json" in str(outcome.exception)


def test_a_place_for_states_that_cannot_be_written_to(tmp_path: Path) -> None:
    job = write_job(tmp_path, name="elsewhere", checkpoints="/proc/nowhere")
    outcome = CliRunner().invoke(app, ["run", str(job), "--in-process"])
    assert isinstance(outcome.exception, RefusedInput)
    assert "`checkpoints`" in str(outcome.exception) and "can be written to" in str(outcome.exception)
    assert not (tmp_path / "runs" / "elsewhere" / "stages").exists()


@pytest.mark.parametrize("command", ["validate", "plan", "run"])
@pytest.mark.parametrize("scheme", ["memory", "github", "http", "zip"])
def test_a_store_that_keeps_nothing_is_no_place_for_states(root: Path, scheme: str, command: str) -> None:
    options = [f"checkpoints={scheme}://bucket/runs"] + (["--in-process"] if command == "run" else [])
    outcome = CliRunner().invoke(app, [command, str(root / "job.yaml"), *options])
    assert isinstance(outcome.exception, RefusedInput), outcome.output
    assert "`checkpoints`" in str(outcome.exception) and f"{scheme}://" in str(outcome.exception)
    assert not (root / "runs").exists()
