"""Settings that were renamed: job files, records of runs and keys of stages go on with the former names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from typer.testing import CliRunner

from espalier.config.base import Config, FormerName
from espalier.config.faults import RefusedInput
from espalier.jobs.job import Job
from espalier.jobs.load import read_job
from espalier.jobs.recipe import stages_of
from espalier.jobs.schema import resolved
from espalier.jobs.stage import StageSettings
from espalier.kinds.grow.kind import GrowStage
from espalier.kinds.train.kind import TrainStage
from espalier.recipes.self_correction import SelfCorrection
from espalier.stages.plan import build_plan
from espalier.stages.run_folder import RunFolder
from espalier_cluster import resume
from espalier_cluster.command import app

_TRAINED = {"budget": {"steps": 4}, "batch": {"sequences": 2}, "optimizer": {"lr": 0.1}, "zero_level": "none"}
_FORMER = {"depth_sampling": "lessons", "growth_check": "seam"}


def _write(folder: Path, *, former: bool, depth: int = 6, **more: Any) -> Path:
    """A job that samples depths and grows, its settings under their former names or under those of today."""
    names = _FORMER if former else {name: name for name in _FORMER}
    sampled = {**_TRAINED, names["depth_sampling"]: {"depth": depth}, **more}
    job = {
        "name": "grown",
        "storage": str(folder / "runs"),
        "data": {"train": {"source": "text", "files": ["/a"]}, "valid": {"fraction": 0.1}},
        "stages": [
            {"name": "parent", "kind": "load", "model": "owner/model"},
            {"name": "first", "kind": "train", "student": "parent", **sampled},
            {"name": "second", "kind": "train", "student": "first", **sampled},
            {
                "name": "deep",
                "kind": "grow",
                "student": "second",
                "target": {"layers": 6},
                names["growth_check"]: {"sequences": 3},
            },
        ],
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def _keys(job: Job) -> list[str]:
    return [stage.key for stage in build_plan(stages_of(job), context={}).stages]


def test_a_job_under_former_names_is_the_same_job(tmp_path: Path) -> None:
    old = read_job(_write(tmp_path, former=True))
    new = read_job(_write(tmp_path, former=False))
    assert old == new and _keys(old) == _keys(new)
    assert [stage.depth_sampling.depth for stage in old.stages if isinstance(stage, TrainStage)] == [6, 6]


def test_keys_hold_the_former_names(tmp_path: Path) -> None:
    _, first, _, deep = read_job(_write(tmp_path, former=False)).stages
    assert isinstance(first, TrainStage) and isinstance(deep, GrowStage)
    assert first.key_settings()["lessons"]["depth"] == 6 and "depth_sampling" not in first.key_settings()
    assert deep.key_settings()["seam"]["sequences"] == 3 and "growth_check" not in deep.key_settings()
    assert first.result_settings()["depth_sampling"]["depth"] == 6, "differences are told under the names of today"


def test_keys_hold_the_former_names_of_settings_inside_others() -> None:
    class Inner(Config):
        now: Annotated[int, FormerName("then")] = 1

    class Outer(StageSettings):
        inner: Annotated[Inner, FormerName("part")] = Inner()

    stage = Outer.model_validate({"name": "one", "kind": "outer", "part": {"then": 2}})
    assert stage.inner.now == 2
    assert stage.key_settings()["part"] == {"then": 2}


def test_each_former_name_is_warned_of_once(tmp_path: Path) -> None:
    told: list[str] = []
    read_job(_write(tmp_path, former=True), warn=told.append)
    assert told == [
        "the setting `lessons` is called `depth_sampling` now; its former name still works",
        "the setting `seam` is called `growth_check` now; its former name still works",
    ]
    told.clear()
    read_job(_write(tmp_path, former=False), warn=told.append)
    assert told == []


def test_the_command_prints_the_warning_to_stderr(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["validate", str(_write(tmp_path, former=True))])
    assert shown.exit_code == 0, shown.output
    assert [line.partition(" is called")[0] for line in shown.stderr.splitlines()] == [
        "warning: the setting `lessons`",
        "warning: the setting `seam`",
    ]
    assert json.loads(shown.stdout)["stages"][1]["depth_sampling"]["depth"] == 6


def test_both_names_at_once_are_refused_with_their_line(tmp_path: Path) -> None:
    path = _write(tmp_path, former=True, depth_sampling={"depth": 7})
    (line,) = [n for n, text in enumerate(path.read_text().splitlines(), 1) if "lessons" in text][:1]
    with pytest.raises(RefusedInput) as refused:
        read_job(path)
    assert str(refused.value.faults[0]) == (
        f"`stages.first.lessons` (line {line}) is {{'depth': 6}}; allowed: leave it out; it is the former name of "
        "depth_sampling, which is given, too."
    )


def test_a_fault_inside_a_setting_under_its_former_name_has_its_line(tmp_path: Path) -> None:
    path = _write(tmp_path, former=True, depth=0)
    (line,) = [n for n, text in enumerate(path.read_text().splitlines(), 1) if "depth: 0" in text][:1]
    with pytest.raises(RefusedInput) as refused:
        read_job(path)
    fault = refused.value.faults[0]
    assert (fault.path, fault.line) == ("stages.first.depth_sampling.depth", line)


def _of_an_older_version(job: Job) -> str:
    text = json.dumps(resolved(job)).replace('"depth_sampling"', '"lessons"').replace('"growth_check"', '"seam"')
    assert '"lessons"' in text and '"seam"' in text
    return text


def test_the_job_of_an_older_run_is_read(tmp_path: Path) -> None:
    job = read_job(_write(tmp_path, former=False))
    (tmp_path / "job.json").write_text(_of_an_older_version(job))
    assert RunFolder(tmp_path).read_job() == job


def test_an_older_run_that_began_anew_does_not_do_so_twice(tmp_path: Path) -> None:
    job = read_job(_write(tmp_path, former=False), ["resume=never"])
    (tmp_path / "resume.json").write_text(_of_an_older_version(job))
    assert resume.was_carried_out(job, RunFolder(tmp_path))


def test_a_recipe_takes_the_former_name_of_its_budget_of_fold_models() -> None:
    settings = {"name": "self_correction", "model": "owner/model", "budget": {"epochs": 4}, "batch": {"sequences": 2}}
    assert SelfCorrection.model_validate(settings | {"twin_budget": 0.25}).fold_budget == 0.25
