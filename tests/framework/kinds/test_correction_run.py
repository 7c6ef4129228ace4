"""A job that corrects itself: the same on one rank and two, stopped or not, and stock code reads what it exports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from espalier.config.labelled import LabelledConfig
from espalier.data.examples import read_labelled
from espalier.tracking.epochs import EPOCHS, final_epochs, table_path
from espalier.tracking.samples import read_samples
from support.labelled import labelled_job, write_labelled_job
from support.spawn import run_ranks
from support.whole_run import recorded_steps, run_again, run_job

RUN = Path("runs", "tiny")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("one")
    return root, run_ranks(run_job, 1, str(write_labelled_job(root)))[0]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("two")
    stages = labelled_job(root)["stages"]
    stages[3] |= {"zero_level": "parameters"}
    job = write_labelled_job(root, stages=stages, workers={"count": 2})
    return root, run_ranks(run_job, 2, str(job))[0]


def weights(root: Path) -> np.ndarray:
    """[epochs, N]."""
    return np.stack([read_samples(root / RUN / table_path("corrected", epoch)).weight for epoch in (1, 2, 3)])


def test_two_ranks_end_in_the_same_weights(one: tuple[Path, dict[str, Any]], two: tuple[Path, dict[str, Any]]) -> None:
    ours, theirs = weights(one[0]), weights(two[0])
    assert len(np.unique(ours[-1])) > 3, "weights that never moved would agree, too"
    np.testing.assert_allclose(theirs, ours, rtol=1e-5)
    found, expected = (results["scores"]["metrics"]["models"] for results in (two[1], one[1]))
    for model in found:
        assert found[model]["confusion"] == expected[model]["confusion"]


def test_fold_models_are_the_same_bits_on_any_number_of_workers(
    one: tuple[Path, dict[str, Any]], two: tuple[Path, dict[str, Any]]
) -> None:
    assert one[1]["twins"]["metrics"] == two[1]["twins"]["metrics"]


def test_every_epoch_is_recorded_once(one: tuple[Path, dict[str, Any]]) -> None:
    root, _ = one
    epochs = final_epochs(root / RUN / EPOCHS, "corrected")
    assert [record.epoch for record in epochs] == [1, 2, 3]
    for record in epochs:
        assert {"alpha", "error", "effective_share", "agreement"} <= record.correction.keys()
        assert record.samples is not None and (root / RUN / record.samples).exists()
    validated = final_epochs(root / RUN / EPOCHS, "vanilla")
    assert [set(record.metrics) >= {"accuracy", "matthews"} for record in validated] == [True, True]


def test_the_result_is_the_best_epoch(one: tuple[Path, dict[str, Any]]) -> None:
    root, results = one
    accuracies = [record.metrics["accuracy"] for record in final_epochs(root / RUN / EPOCHS, "vanilla")]
    best = results["vanilla"]["metrics"]["best"]
    assert best["value"] == max(accuracies) and best["epoch"] == 1 + accuracies.index(max(accuracies))
    assert results["vanilla"]["checkpoint"] == f"stages/vanilla/step-{best['step']:08d}"


def test_stock_transformers_predicts_the_same(one: tuple[Path, dict[str, Any]]) -> None:
    root, results = one
    assert stock_accuracy(root) == results["scores"]["metrics"]["models"]["corrected"]["accuracy"]


def test_a_decoder_reads_its_last_token_as_stock_code_does(tmp_path: Path) -> None:
    short = [stage for stage in labelled_job(tmp_path)["stages"] if stage["name"] not in ("twins", "vanilla")]
    short[1] |= {"teacher": None, "budget": {"epochs": 1}, "signal": {"own_past": [1.0, 1.0]}}
    short[2] |= {"against": []}
    job = write_labelled_job(tmp_path, model={}, stages=short)
    results = run_ranks(run_job, 1, str(job))[0]
    assert stock_accuracy(tmp_path) == results["scores"]["metrics"]["models"]["corrected"]["accuracy"]


@torch.no_grad()
def stock_accuracy(root: Path) -> float:
    export = root / RUN / "exports" / "out"
    model = AutoModelForSequenceClassification.from_pretrained(export, dtype=torch.float32).eval()
    assert model.config.id2label == {0: "bad", 1: "good"}
    tokenizer = AutoTokenizer.from_pretrained(export)
    data = LabelledConfig.model_validate(json.loads((root / RUN / "job.json").read_text())["data"], strict=False)
    valid = read_labelled(data, seed=3).valid
    found = [int(model(**tokenizer(text, return_tensors="pt")).logits.argmax()) for text in valid.texts]
    return float((np.array(found) == valid.targets).mean())


STOPPED_AT = 7
CHECKPOINT = {"every": STOPPED_AT, "keep_latest": 9, "in_background": False}  # a slow disk makes no fewer of them
STOPPED: dict[str, dict[str, Any]] = {
    "mixed": {"signal": {"own_past": [0.0, 0.5]}},
    "patient": {"validation": {"patience": 1}, "optimizer": {"lr": 0.01, "final_lr_ratio": 0.0}},
    "seen": {"weights": {"predictions": "training"}},
}
"""Settings of stages that are stopped amid their second epoch, by name."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("whole")
    parent, _, fold_models, corrected, *_ = labelled_job(root)["stages"]
    corrected = {**corrected, "signal": {}, "checkpoint": CHECKPOINT}
    stages = [corrected | {"name": name} | settings for name, settings in STOPPED.items()]
    return root / RUN, run_ranks(run_job, 1, str(write_labelled_job(root, stages=[parent, fold_models, *stages])))[0]


@pytest.mark.parametrize("name", STOPPED)
def test_a_stage_that_was_stopped_goes_on_and_ends_with_the_same_bits(
    whole: tuple[Path, dict[str, Any]], name: str
) -> None:
    run, expected = whole[0], whole[1][name]
    uninterrupted = {record.epoch: record for record in final_epochs(run / EPOCHS, name)}
    assert list(uninterrupted) == ([1, 2] if name == "patient" else [1, 2, 3]), "the best was before the stop"
    tables = {epoch: read_samples(run / table_path(name, epoch)) for epoch in uninterrupted}
    for later in (run / "stages" / name).glob("step-*"):
        if later.name > f"step-{STOPPED_AT:08d}":
            shutil.rmtree(later)
    (run / "stages" / name / "result.json").unlink()
    shutil.rmtree(run / "records" / "samples" / name)

    found = run_ranks(run_again, 1, str(run), name)[0]
    attempts = {row["step"]: row["attempt"] for row in recorded_steps(run) if row["stage"] == name}
    last = max(record.step for record in uninterrupted.values())
    assert attempts == {step: 1 + (step > STOPPED_AT) for step in range(1, last + 1)}, "it did not begin anew"
    assert found["metrics"] == expected["metrics"] and found["checkpoint"] == expected["checkpoint"]
    for epoch, record in uninterrupted.items():
        assert (run / table_path(name, epoch)).exists() == (record.step > STOPPED_AT)
    for record in final_epochs(run / EPOCHS, name):
        before = uninterrupted.pop(record.epoch)
        assert (record.metrics, record.correction) == (before.metrics, before.correction)
        if record.step > STOPPED_AT:
            for column, values in vars(read_samples(run / table_path(name, record.epoch))).items():
                np.testing.assert_array_equal(values, vars(tables[record.epoch])[column], err_msg=column)
    assert not uninterrupted
