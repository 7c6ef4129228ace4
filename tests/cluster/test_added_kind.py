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
README = Path(__file__).parents[2] / "framework" / "README.md"
COMMAND = (sys.executable, "-m", "espalier_cluster.command")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package on the path of every process that is started, Ray's workers among them."""
    site = tmp_path / "site"
    site.mkdir()
    install(site, "stages_of_focal", {"focal": "espalier_focal.kind:KIND"}, group="espalier.stages")
    install(site, "losses_of_focal", {"focal_cross_entropy": "espalier_focal.loss:FOCAL"}, group="espalier.losses")
    onto_path(monkeypatch, site, PLUGIN)


def onto_path(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    given = filter(None, [*map(str, folders), os.environ.get("PYTHONPATH")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(given))


def espalier(*arguments: object) -> str:
    """What a command prints, which has to end well."""
    ran = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def focal_job(root: Path, *, workers: int = 1, level: str = "none", steps: int = 6) -> Path:
    """Load, train by the added kind, follow it by the added loss, measure, export."""
    root.mkdir(exist_ok=True)
    parent, _, heal, score, out = tiny_job(root)["stages"]
    trained: dict[str, Any] = {name: heal[name] for name in ("batch", "optimizer")}
    trained |= {"zero_level": level, "checkpoint": {"every": 5}}
    focal = {"name": "focal", "kind": "focal", "student": "parent", "gamma": 1.5, "budget": {"steps": steps}}
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
def test_an_added_kind_works_from_schema_to_model_card(tmp_path: Path) -> None:
    job, run = focal_job(tmp_path / "job"), tmp_path / "job" / "runs" / "tiny"
    schema = json.loads(espalier("schema"))
    assert schema["$defs"]["FocalStage"]["properties"]["gamma"]["default"] == 2.0
    assert "unsure" in espalier("explain", "focal")
    espalier("validate", job)
    shown = {stage["name"]: stage for stage in json.loads(espalier("plan", job, "--json"))}
    assert shown["focal"]["kind"] == "focal" and shown["focal"]["steps"] == 6 and shown["focal"]["flops"] > 0
    espalier("run", job, "--in-process")
    assert AutoModelForCausalLM.from_pretrained(run / "exports" / "out").num_parameters() > 0
    card = (run / "exports" / "out" / "README.md").read_text()
    assert "focused" in card and "| focal | focal | parent |" in card
    espalier("report", run)
    assert "focused" in (run / "report.html").read_text()
    assert "focal" in espalier("compare", run) and "after" in espalier("compare", run)
    other = espalier("export", run, "after", tmp_path / "other")
    assert (tmp_path / "other" / "model.safetensors").exists(), other


@pytest.mark.usefixtures("installed")
def test_a_killed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    for root in (calm, rough):
        focal_job(root, steps=30)
    assert finish(calm / "job.yaml", "--in-process") == 0
    run = rough / "runs" / "tiny"
    kill_when(start(rough / "job.yaml", "--in-process"), lambda: num_steps(run) >= 12)
    assert not (run / "stages" / "focal" / "result.json").exists(), "killed too late to show anything"
    assert finish(rough / "job.yaml", "--in-process") == 0
    assert losses(rough) == losses(calm)
    ours, theirs = exported(rough), exported(calm)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.usefixtures("installed")
@pytest.mark.timeout(400)
def test_two_workers_through_ray_learn_what_one_does(tmp_path: Path) -> None:
    alone, through_ray = tmp_path / "alone", tmp_path / "ray"
    assert finish(focal_job(alone), "--in-process") == 0
    assert finish(focal_job(through_ray, workers=2, level="gradients")) == 0, (through_ray / "output.txt").read_text()
    for (*ours, loss), (*theirs, expected) in zip(losses(through_ray), losses(alone), strict=True):
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
    espalier("validate", job)
    dials = {"name": "focal_tuning", "model": str(tmp_path / "job" / "model"), "budget": {"steps": 2}}
    recipe = tiny_job(tmp_path / "job", recipe=dials | {"batch": {"sequences": 2}})
    job.write_text(yaml.safe_dump({name: value for name, value in recipe.items() if name != "stages"}))
    shown = json.loads(espalier("plan", job, "--json"))
    assert [stage["kind"] for stage in shown] == ["load", "focal", "export"]


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
    espalier("validate", job)  # and harms no other job


SHOWN = [  # file, from where, up to where
    (PLUGIN / "espalier_focal" / "kind.py", "from typing", None),
    (PLUGIN / "espalier_focal" / "work.py", "from functools", None),
    (PLUGIN / "espalier_focal" / "recipe.py", "def stages", None),
    (PAIRS / "format.py", "class PairsConfig", None),
    (PAIRS / "pairs.py", "    def row", "def _labels"),
    (SUPPORT / "olmo2.py", "def _layer", "def _last_norm"),
    (SUPPORT / "olmo2.py", "OLMO2 = Family(", None),
    (SUPPORT / "lines_tracker.py", "    def log_step", "    def log_result"),
    (SUPPORT / "lines_tracker.py", "LINES = TrackerKind(", None),
]
"""What the README shows of files that tests of added kinds, formats, recipes, families and trackers run."""


@pytest.mark.parametrize(("file", "begin", "end"), SHOWN)
def test_the_readme_shows_what_the_tests_run(file: Path, begin: str, end: str | None) -> None:
    code = file.read_text()
    start = code.index(begin)
    assert code[start : None if end is None else code.index(end, start)].rstrip() in README.read_text()
