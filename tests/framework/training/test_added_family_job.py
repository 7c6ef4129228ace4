"""A whole job of a family that another package installs, and what the job file says of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from espalier.checkpoint.places import state_storage
from espalier.checkpoint.read import StateReader
from espalier.config.faults import RefusedInput
from espalier.jobs.load import read_job
from espalier.jobs.schema import job_schema
from espalier.models.families import shape_of
from espalier.models.families.registry import FAMILIES
from espalier.planning.prepare import prepare
from support.architectures import build, output, tokens
from support.growing import trained
from support.installed import install, look_again, site_packages
from support.tiny import write_job
from support.whole_run import recorded_steps, run_here


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    with site_packages(tmp_path / "site", FAMILIES) as folder:
        yield folder


def add_olmo2(site: Path, *, entry: str = "support.olmo2:OLMO2") -> None:
    install(site, "olmo_for_espalier", {"olmo2": entry}, group="espalier.families")
    look_again(FAMILIES)


def _stages(family: str, **settings: Any) -> list[dict[str, Any]]:
    shape = {"family": family, "layers": 3, "hidden": 24, "heads": 3, "ffn": 40, "positions": 40}
    scratch = shape | {"train_tokenizer": {"vocabulary": 300}} | settings
    calibration = {"samples": 8, "microbatch_sequences": 2}
    return [
        {"name": "begin", "kind": "load", "from_scratch": scratch},
        trained("learn", "begin", depth_sampling={"depth": 5}, budget={"steps": 8}, optimizer={"lr": 0.01}),
        {"name": "larger", "kind": "grow", "student": "learn", "target": {"layers": 5, "heads": 6},
         "operator": "interpolate"},
        trained("more", "larger", optimizer_state="keep"),
        {"name": "slim", "kind": "prune", "student": "more", "target": {"layers": 4, "ffn": 32},
         "calibration": calibration},
        {"name": "out", "kind": "export", "model": "slim", "dtype": "float32"},
    ]  # fmt: skip


def test_it_ends_in_a_folder_that_stock_code_loads(site: Path, tmp_path: Path) -> None:
    add_olmo2(site)
    job = write_job(tmp_path, stages=_stages("olmo2", kv_heads=3, tied=False))
    folder, results = run_here(job)
    assert results["larger"]["metrics"]["seam"]["difference"] < 1e-4
    losses = [step["loss"] for step in recorded_steps(folder.path) if step["stage"] == "learn"]
    assert losses[-1] < losses[0]
    exported = AutoModelForCausalLM.from_pretrained(folder.path / "exports" / "out").eval()
    assert type(exported).__name__ == "Olmo2ForCausalLM" and exported.config.num_hidden_layers == 4
    slim = StateReader.open(state_storage(folder.path, read_job(job)), results["slim"]["checkpoint"])
    own = build(slim.manifest.origin.model)
    with torch.no_grad():
        for name, parameter in own.named_parameters():
            parameter.copy_(slim.tensor("parameter", name))
    assert output(exported, tokens()).equal(output(own, tokens()))


def test_the_job_file_names_the_families_that_are_installed(site: Path, tmp_path: Path) -> None:
    path = write_job(tmp_path, stages=_stages("olmo2"))
    with pytest.raises(RefusedInput, match=r"from_scratch\.family` .*is 'olmo2'; allowed: one of llama, gpt2, bert\."):
        read_job(path)
    assert listed() == ["llama", "gpt2", "bert"]
    add_olmo2(site)
    assert prepare(read_job(path)).previews[0].config["model_type"] == "olmo2"
    assert listed() == ["llama", "gpt2", "bert", "olmo2"]
    write_job(tmp_path, stages=_stages("olm02", dropout=0.1))
    with pytest.raises(RefusedInput, match=r"one of llama, gpt2, bert, olmo2\. Did you mean `olmo2`"):
        read_job(path)
    write_job(tmp_path, stages=_stages("olmo2", dropout=0.1))
    with pytest.raises(RefusedInput, match=r"from_scratch\.dropout` .*an OLMo-2 has none"):
        read_job(path)


def listed() -> list[str]:
    """By the JSON schema."""
    return job_schema()["$defs"]["FromScratch"]["properties"]["family"]["enum"]


def test_one_that_cannot_be_imported_is_named_with_the_reason(site: Path, tmp_path: Path) -> None:
    add_olmo2(site, entry="nowhere:OLMO2")
    reason = "nowhere:OLMO2 of package olmo_for_espalier cannot be used: ModuleNotFoundError"
    with pytest.raises(RefusedInput, match=f"one of llama, .*{reason}"):
        shape_of({"model_type": "olmo2"})
    with pytest.raises(RefusedInput, match=reason):
        read_job(write_job(tmp_path, stages=_stages("olmo2")))
