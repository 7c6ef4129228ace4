"""What a plan with growth in it says before it runs, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from espalier.config.faults import RefusedInput
from espalier.config.load import read_job
from espalier.planning.prepare import PreparedJob, prepare
from espalier.stages.plan import build_plan
from support.growing import growing_stages, trained
from support.tiny import write_job, write_model

Stages = list[dict[str, Any]]


def prepared(root: Path, change: Callable[[Stages], None] = lambda stages: None) -> PreparedJob:
    stages = growing_stages(root)[:-1]
    change(stages)
    return prepare(read_job(write_job(root, stages=stages)))


def test_shapes_and_costs_are_known_beforehand(tmp_path: Path) -> None:
    previews = {one.stage.name: one for one in prepared(tmp_path).previews}
    shapes = {name: one.to_json()["shape"].get("layers") for name, one in previews.items()}
    assert shapes["lessons"] == 3 and shapes["deep"] == shapes["last"] == 6 and shapes["slim"] == 4
    assert previews["lessons"].flops < previews["later"].flops < previews["last"].flops
    assert previews["deep"].bytes_on_disk == 12 * previews["deep"].parameters, "moments grow, too"
    memory = [previews[name].memory.activations for name in ("lessons", "later")]
    assert memory[0] == memory[1], "a lesson may draw the whole depth"


def _set(stage: str, **settings: Any) -> Callable[[Stages], None]:
    def change(stages: Stages) -> None:
        next(one for one in stages if one["name"] == stage).update(settings)

    return change


def _add(*added: dict[str, Any]) -> Callable[[Stages], None]:
    return lambda stages: stages.extend(added)


_UNROLLED = {"name": "u", "kind": "evaluate", "model": "deep", "unrolled": {"depth": 4}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("lessons", optimizer_state="keep"), "`stages.lessons.optimizer_state` is 'keep'; allowed: fresh, as"),
        (_add(trained("x", "slim", optimizer_state="keep")), "has no optimizer's moments"),
        (_set("lessons", lessons={"depth": 2}), "`stages.lessons.lessons.depth` is 2; allowed: at least the 3 layers"),
        (_set("lessons", zero_level="parameters"), "lessons change that order"),
        (_set("deep", target={"layers": 3}), "`stages.deep.target.layers` is 3; allowed: sizes above those there"),
        (_set("deep", target={"layers": 2}), "`stages.deep.target.layers` is 2; allowed: more than the 3 layers"),
        (_set("deep", target={"hidden": 54}), "`stages.deep.target.hidden` is 54; allowed: a multiple of 36"),
        (_set("deep", target={}), "at least one of layers, hidden, ffn, heads"),
        (_set("deep", operator="splice"), "one of interpolate, stack, copy_last, identity, random"),
        (_add(_UNROLLED), "`stages.u.unrolled.depth` is 4; allowed: at least the 6 layers"),
        (_add(_UNROLLED | {"unrolled": {"depth": 9}, "prompts": ["a"]}), "`stages.u.prompts` is 'a'"),
        (_set("parent", from_scratch={"family": "gpt2"}), "is missing"),
        (_set("lessons", optimizer={"lr": 0.1, "part": {"start": 0.5, "end": 0.2}}), "above start 0.5"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, change: Callable[[Stages], None], message: str) -> None:
    with pytest.raises(RefusedInput) as refused:
        prepared(tmp_path, change)
    assert any(message in str(fault) for fault in refused.value.faults), refused.value.faults


def test_a_family_without_a_table_is_refused_with_the_way_to_add_one(tmp_path: Path) -> None:
    prepared(tmp_path)
    folder = write_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mamba"}))
    with pytest.raises(RefusedInput, match="others need a table in models/families"):
        prepare(read_job(tmp_path / "job.yaml"))


def test_the_microbatch_is_part_of_a_result_only_where_depths_are_drawn_for_it(tmp_path: Path) -> None:
    def keys(*, microbatch: int, **settings: Any) -> list[str]:
        batch = {"sequences": 8, "microbatch_sequences": microbatch}
        stages = [growing_stages(tmp_path)[0], trained("one", "parent", batch=batch, **settings)]
        return [
            stage.key for stage in build_plan(read_job(write_job(tmp_path, stages=stages)).stages, context={}).stages
        ]

    assert keys(microbatch=1) == keys(microbatch=4)
    assert keys(microbatch=1, lessons={"depth": 6}) != keys(microbatch=4, lessons={"depth": 6})
