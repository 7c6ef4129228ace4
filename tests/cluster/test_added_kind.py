"""A stage kind and a loss of another package work everywhere, without any change to our own files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from support.installed import install
from support.kill import finish, kill_when, num_steps, start
from support.tiny import tiny_job, write_job

SUPPORT = Path(__file__).parents[1] / "support"
PLUGIN = SUPPORT / "focal_plugin"
PAIRS = SUPPORT / "preference_plugin" / "espalier_preference"
LORA = SUPPORT / "lora_plugin" / "espalier_lora"
README = Path(__file__).parents[2] / "framework" / "README.md"
COMMAND = (sys.executable, "-m", "espalier_cluster.command")


EVERY = """
import json, sys
from typer.testing import CliRunner
from espalier_cluster.command import app
for words in json.loads(sys.argv[1]):
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, f"{words}: {ran.output} {ran.exception!r}"
    print(json.dumps(ran.stdout))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    install(site, "stages_of_focal", {"focal": "espalier_focal.kind:KIND"}, group="espalier.stages")
    install(site, "losses_of_focal", {"focal_cross_entropy": "espalier_focal.loss:FOCAL"}, group="espalier.losses")
    return site


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package on the path of every process that is started, Ray's workers among them."""
    onto_path(monkeypatch, site, PLUGIN)


@pytest.fixture(scope="module")
def calm(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job that ran to its end on one worker, without interruption."""
    root = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        onto_path(patch, site, PLUGIN)
        assert finish(focal_job(root), "--in-process") == 0, (root / "output.txt").read_text()
    return root


def onto_path(patch: pytest.MonkeyPatch, *folders: Path) -> None:
    given = filter(None, [*map(str, folders), os.environ.get("PYTHONPATH")])
    patch.setenv("PYTHONPATH", os.pathsep.join(given))


def espalier(*commands: list[object]) -> list[str]:
    """What commands print that one process runs; all have to end well."""
    words = json.dumps([[*map(str, command)] for command in commands])
    ran = subprocess.run([sys.executable, "-c", EVERY, words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def focal_job(root: Path, *, workers: int = 1, level: str = "none") -> Path:
    """Load, train by the added kind, follow it by the added loss, measure, export."""
    root.mkdir(exist_ok=True)
    parent, _, heal, score, out = tiny_job(root)["stages"]
    trained: dict[str, Any] = {name: heal[name] for name in ("batch", "optimizer")}
    trained |= {"zero_level": level, "checkpoint": {"every": 5}}
    focal = {"name": "focal", "kind": "focal", "student": "parent", "gamma": 1.5, "budget": {"steps": 30}}
    after = {"name": "after", "kind": "distill", "student": "parent", "teacher": "focal", "budget": {"steps": 2}}
    after["losses"] = [{"function": "focal_cross_entropy", "gamma": 3.0}, {"function": "forward_kl", "weight": 0.5}]
    stages = [parent, focal | trained, after | trained, score | {"model": "after", "against": ["parent", "focal"]}]
    return write_job(root, stages=[*stages, out | {"model": "focal"}], workers={"count": workers})


def exported(root: Path) -> dict[str, torch.Tensor]:
    return load_file(root / "runs" / "tiny" / "exports" / "out" / "model.safetensors")


def losses(root: Path) -> list[tuple[str, int, float]]:
    lines = (root / "runs" / "tiny" / "records" / "steps.jsonl").read_text().splitlines()
    return [(one["stage"], one["step"], one["loss"]) for one in map(json.loads, lines)]


@pytest.mark.usefixtures("installed")
def test_an_added_kind_works_from_schema_to_model_card(calm: Path, tmp_path: Path) -> None:
    job, run = calm / "job.yaml", calm / "runs" / "tiny"
    schema, explained, _, plan, _, compared, told = espalier(
        ["schema"],
        ["explain", "focal"],
        ["validate", job],
        ["plan", job, "--json"],
        ["report", run],
        ["compare", run],
        ["export", run, "after", tmp_path / "other"],
    )
    assert json.loads(schema)["$defs"]["FocalStage"]["properties"]["gamma"]["default"] == 2.0
    assert "unsure" in explained
    shown = {stage["name"]: stage for stage in json.loads(plan)}
    assert shown["focal"]["kind"] == "focal" and shown["focal"]["steps"] == 30 and shown["focal"]["flops"] > 0
    assert AutoModelForCausalLM.from_pretrained(run / "exports" / "out").num_parameters() > 0
    card = (run / "exports" / "out" / "README.md").read_text()
    assert "focused" in card and "| focal | focal | parent |" in card
    assert "focused" in (run / "report.html").read_text()
    assert "focal" in compared and "after" in compared
    assert (tmp_path / "other" / "model.safetensors").exists(), told


@pytest.mark.usefixtures("installed")
def test_a_killed_run_ends_in_the_same_bits(calm: Path, tmp_path: Path) -> None:
    job, run = focal_job(tmp_path), tmp_path / "runs" / "tiny"
    kill_when(start(job, "--in-process"), lambda: num_steps(run) >= 12)
    assert not (run / "stages" / "focal" / "result.json").exists(), "killed too late to show anything"
    assert finish(job, "--in-process") == 0
    assert losses(tmp_path) == losses(calm)
    ours, theirs = exported(tmp_path), exported(calm)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.usefixtures("installed")
@pytest.mark.timeout(400)
def test_two_workers_through_ray_learn_what_one_does(calm: Path, tmp_path: Path) -> None:
    job = focal_job(tmp_path, workers=2, level="gradients")
    assert finish(job) == 0, (tmp_path / "output.txt").read_text()
    for (*ours, loss), (*theirs, expected) in zip(losses(tmp_path), losses(calm), strict=True):
        assert ours == theirs and loss == pytest.approx(expected, rel=1e-5)


def test_an_installed_wheel_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    copy = tmp_path / "source"  # setuptools builds beside the sources
    for path in PLUGIN.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            (copy / path.relative_to(PLUGIN)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(PLUGIN)).write_bytes(path.read_bytes())
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *offline, "-w", str(tmp_path), str(copy)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", *offline, "--target", str(site), str(wheel)], check=True)
    job = focal_job(tmp_path / "job")
    without = subprocess.run([*COMMAND, "validate", str(job)], capture_output=True, text=True, check=False)
    assert without.returncode == 2 and "load, grow, prune" in without.stdout + without.stderr
    onto_path(monkeypatch, site)
    dials = {"name": "focal_tuning", "model": str(tmp_path / "job" / "model"), "budget": {"steps": 2}}
    recipe = tiny_job(tmp_path / "job", recipe=dials | {"batch": {"sequences": 2}})
    tuning = tmp_path / "job" / "tuning.yaml"
    tuning.write_text(yaml.safe_dump({name: value for name, value in recipe.items() if name != "stages"}))
    _, plan = espalier(["validate", job], ["plan", tuning, "--json"])
    assert [stage["kind"] for stage in json.loads(plan)] == ["load", "focal", "export"]


def test_a_kind_that_cannot_be_imported_is_named_where_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "half_installed", {"focal": "half_installed:KIND"}, "import no_such_module", group="espalier.stages")
    onto_path(monkeypatch, site)
    job = focal_job(tmp_path / "job")
    ran = subprocess.run([*COMMAND, "validate", str(job)], capture_output=True, text=True, check=False)
    told = " ".join((ran.stdout + ran.stderr).split())
    assert ran.returncode == 2
    assert "half_installed:KIND of package half_installed cannot be used: ModuleNotFoundError" in told
    job.write_text(yaml.safe_dump(tiny_job(tmp_path / "job")))
    espalier(["validate", job])  # and harms no other job


SHOWN = [  # file, from where, up to where
    (PLUGIN / "espalier_focal" / "kind.py", "from typing", None),
    (PLUGIN / "espalier_focal" / "work.py", "from functools", None),
    (PLUGIN / "espalier_focal" / "recipe.py", "def stages", None),
    (PAIRS / "format.py", "class PairsConfig", None),
    (PAIRS / "pairs.py", "    def row", "def _labels"),
    (LORA / "trained.py", "def trained_part", None),
    (LORA / "adapter.py", "    def attach", "    def _widths"),
    (SUPPORT / "olmo2.py", "def _layer", "def _last_norm"),
    (SUPPORT / "olmo2.py", "OLMO2 = Family(", None),
    (SUPPORT / "lines_tracker.py", "    def log_step", "    def log_result"),
    (SUPPORT / "lines_tracker.py", "LINES = TrackerKind(", None),
]
"""What the README shows of files that tests of added kinds, formats, additions, recipes, families and trackers run."""


@pytest.mark.parametrize(("file", "begin", "end"), SHOWN)
def test_the_readme_shows_what_the_tests_run(file: Path, begin: str, end: str | None) -> None:
    code = file.read_text()
    start = code.index(begin)
    assert code[start : None if end is None else code.index(end, start)].rstrip() in README.read_text()
