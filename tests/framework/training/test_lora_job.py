"""A stage kind of another package that adds parameters to a model and folds them into it at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from espalier.checkpoint.read import StateReader
from espalier.models.families import layout
from espalier.storage.local import LocalStorage
from support.lora_runs import run_all

Runs = tuple[Path, dict[str, dict[str, Any]]]
RUN = Path("runs", "tiny")
STEPS = 4


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    root = tmp_path_factory.mktemp("lora")
    return root, run_all(root)


def result(runs: Runs, run: str, stage: str) -> StateReader:
    return StateReader.open(LocalStorage(runs[0] / run / RUN), runs[1][run][stage]["checkpoint"])


def last_step(runs: Runs, run: str, stage: str) -> StateReader:
    return StateReader.open(LocalStorage(runs[0] / run / RUN), f"stages/{stage}/step-{STEPS:08d}")


def folded(before: StateReader, trained: StateReader, target: str, scale: float) -> Tensor:
    """W + scale * B A."""
    up, down = (trained.tensor("parameter", target.replace(".weight", f".lora_{one}.weight")) for one in "ba")
    return before.tensor("parameter", target) + scale * up @ down


def targets(state: StateReader, *words: str) -> list[str]:
    return [name for name in state.shapes if name.endswith(tuple(f".{word}.weight" for word in words))]


@pytest.mark.parametrize("run", ["whole", "two"])
def test_the_model_that_comes_of_it_is_folded(runs: Runs, run: str) -> None:
    parent, lora, again = (result(runs, run, name) for name in ("parent", "lora", "again"))
    queries = targets(parent, "q_proj", "v_proj")
    changed = [name for name in parent.shapes if not _same(parent, lora, name)]
    assert changed == queries and len(queries) == 6
    for name in queries:
        assert torch.equal(lora.tensor("parameter", name), folded(parent, last_step(runs, run, "lora"), name, 16 / 3))
    trained, norms = last_step(runs, run, "again"), [name for name in parent.shapes if "norm" in name]
    for name in targets(parent, "down_proj"):
        assert torch.equal(again.tensor("parameter", name), folded(lora, trained, name, 8.0))
    assert all(_same(trained, again, name) and not _same(lora, again, name) for name in norms)


def _same(one: StateReader, other: StateReader, name: str) -> bool:
    return torch.equal(one.tensor("parameter", name), other.tensor("parameter", name))


def test_checkpoints_hold_what_is_trained_and_the_result_what_is_changed(runs: Runs) -> None:
    parent, lora, again = (result(runs, "whole", name) for name in ("parent", "lora", "again"))
    trained, queries = last_step(runs, "whole", "lora").manifest, targets(parent, "q_proj", "v_proj")
    assert all("lora_" in name for records in trained.tensors.values() for name in records)
    num_added = sum(torch.Size(shape).numel() for shape in trained.beside.values())
    assert num_added == runs[1]["whole"]["lora"]["metrics"]["trained_parameters"]
    assert sum(one.num_bytes for one in trained.files.values()) < 12 * num_added + 200 * 3 * len(trained.beside)
    assert list(lora.manifest.tensors) == ["parameter"] and set(lora.manifest.tensors["parameter"]) == set(queries)
    assert not lora.manifest.beside and [base.folder for base in lora.manifest.bases] == [parent.folder]
    assert [base.folder for base in again.manifest.bases] == [lora.folder, parent.folder]
    norms = {name for name in parent.shapes if "norm" in name}
    assert set(again.names("exp_avg")) == norms, "moments of the model's own parameters stay with it"
    assert again.manifest.state["updates"] == STEPS


@pytest.mark.parametrize(("run", "stage"), [("pieces", "lora"), ("pieces", "again"), ("redone", "lora")])
def test_it_ends_in_the_same_bits_wherever_it_is_stopped(runs: Runs, run: str, stage: str) -> None:
    one, other = result(runs, "whole", stage), result(runs, run, stage)
    assert all(_same(one, other, name) for name in one.shapes)
    assert one.manifest.tensors.keys() == other.manifest.tensors.keys()


def test_two_ranks_that_share_everything_learn_the_same(runs: Runs) -> None:
    for stage in ("lora", "again"):
        one, other = last_step(runs, "whole", stage), last_step(runs, "two", stage)
        for name in one.manifest.tensors["parameter"]:
            wanted = one.tensor("parameter", name)
            assert float((other.tensor("parameter", name) - wanted).norm() / wanted.norm()) < 1e-4, name


def test_the_plan_counts_what_is_added(runs: Runs) -> None:
    plan = json.loads((runs[0] / "whole" / RUN / "plan.json").read_text())
    lora = next(stage for stage in plan if stage["name"] == "lora")
    parameters = layout(result(runs, "whole", "parent").manifest.origin.model)
    num_added = runs[1]["whole"]["lora"]["metrics"]["trained_parameters"]
    values = sum(one.num_elements for one in parameters.values())
    queries = sum(
        parameters[name].num_elements for name in targets(result(runs, "whole", "parent"), "q_proj", "v_proj")
    )
    assert lora["trained_parameters"] == num_added
    assert lora["memory"]["weights"] == 4 * (values + num_added) and lora["memory"]["moments"] == 8 * num_added
    assert lora["bytes_on_disk"] == 3 * 12 * num_added + 4 * queries
    assert runs[1]["whole"]["lora"]["cost"]["flops"] == pytest.approx(lora["flops"])


def test_an_export_is_a_stock_folder(runs: Runs) -> None:
    folder = runs[0] / "whole" / RUN / "exports" / "out"
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not (info["missing_keys"] or info["unexpected_keys"])
    state = result(runs, "whole", "again")
    assert all(torch.equal(weight, state.tensor("parameter", name)) for name, weight in model.named_parameters())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("kept", "`stages.lora.optimizer_state` is 'keep'; allowed: fresh, as the stage trains nothing of the model"),
        ("nothing", "`stages.lora` is 'lora'; allowed: settings with which something is trained"),
    ],
)
def test_what_cannot_work_is_refused(runs: Runs, settings: str, told: str) -> None:
    assert told in str(runs[1]["refused"][settings])
