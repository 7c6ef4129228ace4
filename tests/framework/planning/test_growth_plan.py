"""What a plan with growth in it says before it runs, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from espalier.config.faults import RefusedInput
from espalier.jobs.load import read_job
from espalier.models.flops import model_flops
from espalier.planning.prepare import PreparedJob, prepare
from espalier.stages.plan import build_plan
from espalier.training.flop_counter import StepFlops
from support.growing import growing_stages, trained
from support.tiny import tiny_job, write_job, write_model

Stages = list[dict[str, Any]]


def prepared(root: Path, change: Callable[[Stages], None] = lambda stages: None) -> PreparedJob:
    stages = growing_stages(root)[:-1]
    change(stages)
    return prepare(read_job(write_job(root, stages=stages)))


def test_shapes_and_costs_are_known_beforehand(tmp_path: Path) -> None:
    previews = {one.stage.name: one for one in prepared(tmp_path).previews}
    shapes = {name: one.to_json()["shape"].get("layers") for name, one in previews.items()}
    assert shapes["shallow"] == 3 and shapes["deep"] == shapes["last"] == 6 and shapes["slim"] == 4
    assert previews["shallow"].flops < previews["later"].flops < previews["last"].flops
    assert previews["deep"].bytes_on_disk == 12 * previews["deep"].parameters, "moments grow, too"
    memory = [previews[name].memory.activations for name in ("shallow", "later")]
    assert memory[0] == memory[1], "a microbatch may run the whole depth"


def _set(stage: str, **settings: Any) -> Callable[[Stages], None]:
    def change(stages: Stages) -> None:
        next(one for one in stages if one["name"] == stage).update(settings)

    return change


def _add(*added: dict[str, Any]) -> Callable[[Stages], None]:
    return lambda stages: stages.extend(added)


def test_flops_of_unrolled_and_masked_models_are_those_of_the_result(tmp_path: Path) -> None:
    unrolled = {"name": "u", "kind": "evaluate", "model": "shallow", "unrolled": {"depth": 5}, "against": ["deep"]}
    previews = {one.stage.name: one for one in prepared(tmp_path, _add(unrolled | {"sequences": 6})).previews}
    small, deep = (
        model_flops(previews[name].config, tokens=6 * 32, sequence_tokens=32, layers=layers)
        for name, layers in (("shallow", 5), ("deep", 6))
    )
    assert previews["u"].flops == small + deep

    bert = {"name": "bert", "kind": "load", "from_scratch": _SCRATCH | {"family": "bert"}}
    taught = trained("taught", "bert", kind="distill", teacher="bert", masked_share=0.2)
    score = {"name": "score", "kind": "evaluate", "model": "taught", "sequences": 6, "masked_share": 0.3}
    prepared_bert = prepare(read_job(write_job(tmp_path, stages=[bert, taught, score])))
    _, one, other = prepared_bert.previews
    ledger = StepFlops(one.stage.config, one.config, one.config, seed=3, sequence_tokens=32, num_steps=4)
    assert one.flops == pytest.approx(ledger.flops(4))
    assert other.flops == model_flops(other.config, tokens=6 * 32, sequence_tokens=32, read_share=0.3)


def too_long(root: Path, **job: Any) -> list[str]:
    data = tiny_job(root)["data"] | {"sequence_tokens": 64}
    with pytest.raises(RefusedInput) as refused:
        prepare(read_job(write_job(root, data=data, **job)))
    return [str(fault) for fault in refused.value.faults]


def test_each_model_from_scratch_knows_the_positions_it_is_trained_on(tmp_path: Path) -> None:
    loads = [
        {"name": family, "kind": "load", "from_scratch": _SCRATCH | {"family": family}} for family in ("llama", "gpt2")
    ]
    stages = [*loads, *(trained(f"{load['name']}_trained", load["name"]) for load in loads)]
    assert too_long(tmp_path, stages=stages) == [
        f"`stages.{family}.from_scratch.positions` is 40; allowed: at least 64, as data.sequence_tokens says."
        for family in ("llama", "gpt2")
    ]
    recipe = {
        "name": "progressive_growth",
        "from_scratch": _SCRATCH | {"family": "llama"},
        "budget": {"steps": 100},
        "batch": {"sequences": 4},
        "baseline": True,
    }
    assert too_long(tmp_path, recipe=recipe, stages=[]) == [
        "`recipe.from_scratch.positions` is 40; allowed: at least 64, as data.sequence_tokens says."
    ]


def test_a_published_model_that_knows_too_few_positions_is_named_once(tmp_path: Path) -> None:
    stages = growing_stages(tmp_path)[:2]
    write_job(tmp_path, stages=stages)
    gpt2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 36, "n_layer": 3, "n_head": 6}
    write_model(tmp_path / "model", **gpt2, n_inner=None, n_positions=24, max_position_embeddings=24)
    with pytest.raises(RefusedInput) as refused:
        prepare(read_job(tmp_path / "job.yaml"))
    assert [str(fault) for fault in refused.value.faults] == [
        "`data.sequence_tokens` is 32; allowed: at most the 24 positions that the model of stage parent knows."
    ]


_SCRATCH = {"layers": 4, "hidden": 36, "heads": 3, "positions": 40, "train_tokenizer": {"vocabulary": 300}}
_UNROLLED = {"name": "u", "kind": "evaluate", "model": "deep", "unrolled": {"depth": 4}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("shallow", optimizer_state="keep"), "`stages.shallow.optimizer_state` is 'keep'; allowed: fresh, as"),
        (_add(trained("x", "slim", optimizer_state="keep")), "has no optimizer's moments"),
        (
            _set("shallow", depth_sampling={"depth": 2}),
            "`stages.shallow.depth_sampling.depth` is 2; allowed: at least the 3 layers",
        ),
        (_set("shallow", zero_level="parameters"), "depth sampling changes that order"),
        (_set("deep", target={"layers": 3}), "`stages.deep.target.layers` is 3; allowed: sizes above those there"),
        (_set("deep", target={"layers": 2}), "`stages.deep.target.layers` is 2; allowed: more than the 3 layers"),
        (_set("deep", target={"hidden": 54}), "`stages.deep.target.hidden` is 54; allowed: a multiple of 36"),
        (_set("deep", target={}), "at least one of layers, hidden, ffn, heads"),
        (_set("deep", operator="stack"), "`stages.deep.operator` is 'stack'; allowed: interpolate, the order in which"),
        (_set("deep", operator="stack"), "or stack as stages.shallow.depth_sampling.order"),
        (_set("deep", operator="random"), "`stages.deep.operator` is 'random'; allowed: interpolate, the order in"),
        (
            _set("shallow", depth_sampling={"depth": 6, "order": "stack"}),
            "`stages.deep.operator` is 'interpolate'; allowed:",
        ),
        (_set("deep", noise=0.1), "`stages.deep.noise` is 0.1; allowed: leave it out, or a target with more hidden"),
        (_set("deep", operator="splice"), "one of interpolate, stack, copy_last, identity, random"),
        (_add(_UNROLLED), "`stages.u.unrolled.depth` is 4; allowed: at least the 6 layers"),
        (_add(_UNROLLED | {"unrolled": {"depth": 9}, "prompts": ["a"]}), "`stages.u.prompts` is 'a'"),
        (_set("parent", from_scratch={"family": "gpt2"}), "is missing"),
        (_set("shallow", optimizer={"lr": 0.1, "part": {"start": 0.5, "end": 0.2}}), "above start 0.5"),
    ],
)
def test_faults_are_refused_in_one_sentence(tmp_path: Path, change: Callable[[Stages], None], message: str) -> None:
    with pytest.raises(RefusedInput) as refused:
        prepared(tmp_path, change)
    assert any(message in str(fault) for fault in refused.value.faults), refused.value.faults


def test_a_bert_from_scratch_needs_a_tokenizer_with_a_mask_wherever_that_is_said(tmp_path: Path) -> None:
    prepared(tmp_path)
    folder = write_model(tmp_path / "model")
    shape = {key: value for key, value in _SCRATCH.items() if key != "train_tokenizer"}
    bert = {"name": "bert", "kind": "load", "from_scratch": shape | {"family": "bert", "tokenizer": str(folder)}}
    with pytest.raises(RefusedInput, match=r"`stages.bert.from_scratch.tokenizer`.*a tokenizer with a mask token"):
        prepared(tmp_path, _add(bert))
    (folder / "special_tokens_map.json").write_text(json.dumps({"mask_token": {"content": "a"}}))
    assert "bert" in prepared(tmp_path, _add(bert)).sources


def test_growth_in_the_order_of_depth_sampling_is_not_refused(tmp_path: Path) -> None:
    prepared(tmp_path, _set("deep", operator="identity"))
    wide = growing_stages(tmp_path)[:3]
    wide[2] |= {"target": {"ffn": 106}, "operator": "stack"}
    prepare(read_job(write_job(tmp_path, stages=wide)))
    recipe = {
        "name": "progressive_growth",
        "from_scratch": _SCRATCH | {"family": "llama"},
        "preset": "apollo",
        "budget": {"steps": 100},
        "batch": {"sequences": 4},
    }
    for operator in ("interpolate", "stack"):
        job = write_job(tmp_path, recipe=recipe | {"operator": operator}, stages=[])
        assert prepare(read_job(job)).plan["grow_2"].config.operator == operator


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
    assert keys(microbatch=1, depth_sampling={"depth": 6}) != keys(microbatch=4, depth_sampling={"depth": 6})
