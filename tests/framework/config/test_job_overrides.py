"""`a.b=value` after the job file."""

# ruff: noqa: E501 - one case a line reads as a table

from __future__ import annotations

from pathlib import Path

import pytest

from espalier.config.document import parse
from espalier.config.faults import RefusedInput
from espalier.config.overrides import apply_overrides
from espalier.jobs.load import read_job


@pytest.mark.parametrize("stage", ["stages.heal", "stages[2]"])
def test_a_stage_goes_by_name_or_position(job_file: Path, stage: str) -> None:
    job = read_job(job_file, [f"{stage}.optimizer.lr=3e-5", "seed=5"])
    assert job.stages[2].optimizer.lr == 3e-5
    assert job.stages[2].optimizer.schedule == "wsd"
    assert job.seed == 5


def test_a_name_may_hold_dots(job_file: Path) -> None:
    assert read_job(job_file, ["stages.slim.v2.target={ffn: 7}"]).stages[1].target.ffn == 7


def test_the_longest_name_that_fits_is_meant() -> None:
    document = parse("stages: [{name: a, b: {x: 1}}, {name: a.b, x: 2}]", origin="test")
    changed = apply_overrides(document, ["stages.a.b.x=3"]).values["stages"]
    assert changed == [{"name": "a", "b": {"x": 1}}, {"name": "a.b", "x": 3}]


def test_the_last_override_wins(job_file: Path) -> None:
    assert read_job(job_file, ["seed=5", "seed=7"]).seed == 7


@pytest.mark.parametrize(
    ("override", "value"),
    [("x=1e-4", 1e-4), ("x=[1, a]", [1, "a"]), ("x={a: 1}", {"a": 1}), ("x=", None), ("x=a=b", "a=b")],
)
def test_values_are_read_as_yaml(override: str, value: object) -> None:
    assert apply_overrides(parse("{}", origin="test"), [override]).values == {"x": value}


def test_missing_parents_are_made_and_lists_are_reached(job_file: Path) -> None:
    job = read_job(job_file, ["tracking.wandb.mode=off", "stages.heal.losses[1].beta=0.2"])
    assert job.tracking.wandb.mode == "off"
    assert job.stages[2].losses[1].beta == 0.2


def test_what_an_alias_shares_changes_in_one_place_only() -> None:
    document = parse("a: &a {x: 1}\nb: *a\n", origin="test")
    assert apply_overrides(document, ["b.x=2"]).values == {"a": {"x": 1}, "b": {"x": 2}}
    assert document.values == {"a": {"x": 1}, "b": {"x": 1}}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("seed", "`override` is 'seed'; allowed: setting=value"),
        ("=5", "`override` is '=5'; allowed: setting=value"),
        ("stages.heel.lr=1", "names no item 'heel'; allowed: one of parent, slim.v2, heal, score, out. Did you mean `heal`?"),
        ("stages[5].lr=1", "`stages[5].lr` leads past the end of the list; allowed: positions [0] to [4]"),
        ("seed.x=1", "`seed.x` leads nowhere"),
        ("a..b=1", "`a..b` leads nowhere"),
        ("seed.=1", "`seed.` is no path"),
        ("stages[0]x=1", "`stages[0]x` is no path"),
        ("data.train.files.x=1", "names no item 'x'; allowed: positions in brackets"),
        ("seed=[1", "`seed=[1` (line 1) is not YAML"),
        ("seed=!!int 5", "has the tag"),
        ("workers.cout=1", "allowed: count, min, gpus_each, cpus_each, accelerator, labels. Did you mean `count`?"),
        *((f"tracking.wandb.mode={value}", "Did you mean `off`?") for value in ("none", "false", "disabled")),
        ("stages.heal.optimizer.lr=-1", "`stages.heal.optimizer.lr` is -1; allowed: a number at least 1e-10 and at most 10"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_refused_in_one_sentence(refuse, override: str, sentence: str) -> None:
    said = refuse(overrides=[override])
    assert len(said) == 1
    assert sentence in said[0]


def test_all_wrong_overrides_are_told_at_once(refuse) -> None:
    assert len(refuse(overrides=["x", "seed=5", "seed.x=1"])) == 2


def test_stages_that_a_recipe_makes_cannot_be_reached() -> None:
    with pytest.raises(RefusedInput, match="it lists no stages"):
        apply_overrides(parse("recipe: {name: r}", origin="test"), ["stages.healed.lr=1"])
