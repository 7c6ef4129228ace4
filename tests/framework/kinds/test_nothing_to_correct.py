"""Where held-out answers show no wrong labels, self-correction is plain fine-tuning, and says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from espalier.tracking.epochs import EPOCHS, final_epochs
from support.labelled import labelled_job, write_labelled_job, write_table
from support.spawn import run_ranks
from support.whole_run import run_job

RUN = Path("runs", "tiny")


def stages(root: Path, **corrected: Any) -> list[dict[str, Any]]:
    """Plain and corrected fine-tuning with the same settings, both exported."""
    parent, _, fold_models, found, scores, _ = labelled_job(root)["stages"]
    defaults = {name: found[name] for name in ("student", "batch", "optimizer", "zero_level")}
    return [
        parent,
        {"name": "vanilla", "kind": "train", "budget": {"epochs": 2}, **defaults},
        fold_models,
        {"name": "corrected", "kind": "correct", "teacher": "twins", "budget": {"epochs": 2}, **defaults, **corrected},
        scores,
        *(
            {"name": f"out_{name}", "kind": "export", "model": name, "dtype": "float32"}
            for name in ("vanilla", "corrected")
        ),
    ]


def exported(root: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(root / RUN / "exports" / f"out_{name}" / "model.safetensors")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clean")
    job = write_labelled_job(root, stages=stages(root))
    write_table(root / "samples.csv", wrong=0.0)
    run_ranks(run_job, 1, str(job))
    return root


def test_the_model_is_that_of_plain_fine_tuning_bit_for_bit(clean: Path) -> None:
    plain, corrected = exported(clean, "vanilla"), exported(clean, "corrected")
    assert plain.keys() == corrected.keys()
    for name, tensor in plain.items():
        assert torch.equal(tensor, corrected[name]), name


def test_the_decision_and_its_reason_are_recorded(clean: Path) -> None:
    records = final_epochs(clean / RUN / EPOCHS, "corrected")
    for record in records:
        figures = record.correction
        assert figures["noise_acting"] == figures["heard"] == figures["alpha"] == 0.0 and figures["trust"] == 1.0
        assert 0.0 <= figures["noise_low"] <= figures["noise"] <= figures["noise_high"]
    notes = [line for path in clean.glob("runs/tiny/**/*.jsonl") for line in path.read_text().splitlines()]
    assert any(
        "corrected: nothing is corrected" in line and "passes over the samples to find that out" in line
        for line in notes
    )
