"""One job with several data sets: pretraining on text, then a new head and fine-tuning on labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification

from espalier.checkpoint.read import StateReader
from espalier.config.faults import RefusedInput
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from espalier.report.run import read_run
from espalier.report.training_curves import training_curves_of
from support.labelled import write_table
from support.tiny import write_model, write_text
from support.whole_run import run_here

TRAINED = {"batch": {"sequences": 4}, "optimizer": {"lr": 0.003}, "zero_level": "none"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two_data_sets")
    write_model(root / "model")
    write_text(root / "text")
    write_table(root / "samples.csv")
    return root


def job_of(root: Path, *stages: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Text under `data`, labels under `data_sets.reviews`; stages after one that loads."""
    text = {"train": {"source": "text", "files": [str(root / "text/*.txt")]}, "valid": {"fraction": 0.2}}
    table = {"source": "csv", "files": [str(root / "samples.csv")], "id": "id"}
    labels = {"task": "classification", "train": table, "valid": {"fraction": 0.25}, "sequence_tokens": 24}
    load = {"name": "parent", "kind": "load", "model": str(root / "model")}
    job = {
        "name": "both",
        "storage": str(root / "runs"),
        "seed": 3,
        "dtype": "float32",
        "tracking": {"wandb": {"mode": "off"}},
        "data": {**text, "sequence_tokens": 32},
        "data_sets": {"reviews": labels},
        "stages": [load, *stages],
    }
    return job | changes


def write(root: Path, job: dict[str, Any]) -> Path:
    path = root / "job.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False))
    return path


def refused(root: Path, job: dict[str, Any]) -> list[str]:
    with pytest.raises(RefusedInput) as raised:
        prepare(read_job(write(root, job)))
    return [str(fault) for fault in raised.value.faults]


PRETRAIN = {"name": "pretrained", "kind": "train", "student": "parent", "budget": {"steps": 3}, **TRAINED}
HEAD = {"name": "reader", "kind": "head", "student": "pretrained", "data": "reviews"}
TUNE = {"name": "tuned", "kind": "train", "student": "reader", "data": "reviews", "budget": {"epochs": 1}, **TRAINED}
SCORES = {"name": "scores", "kind": "evaluate", "model": "tuned", "data": "reviews"}
EXPORT = {"name": "out", "kind": "export", "model": "tuned", "dtype": "float32"}


def test_pretrain_then_fine_tune_in_one_job(root: Path) -> None:
    folder, results = run_here(write(root, job_of(root, PRETRAIN, HEAD, TUNE, SCORES, EXPORT)))
    states = {name: StateReader.open(folder.files, results[name]["checkpoint"]) for name in ("pretrained", "reader")}
    body = [name for name in states["reader"].shapes if name != "score.weight"]
    assert len(body) == len(states["pretrained"].shapes)  # its head is its embedding
    for name in body:
        kept = (state.tensor("parameter", name) for state in states.values())
        assert torch.equal(*kept), name
    assert results["reader"]["metrics"]["fresh"] == ["score.weight"]
    assert set(results["scores"]["metrics"]["models"]["tuned"]) >= {"accuracy", "loss"}
    assert results["scores"]["metrics"]["watched"] == "accuracy"
    run = read_run(folder.path)
    assert {curve.label: curve.measure for curve in training_curves_of(run)} == {
        "pretrained": "nats per token",
        "tuned": "nats per sample",
    }
    assert (run.shown("pretrained").watched, run.shown("tuned").watched) == (None, "accuracy")
    assert run.shown("tuned").classes == ("bad", "good")
    model = AutoModelForSequenceClassification.from_pretrained(folder.export("out"))
    assert model.config.id2label == {0: "bad", 1: "good"} and model.config.pad_token_id is not None


def test_keys_hold_the_data_of_their_own_stage_alone(root: Path) -> None:
    def keys(**changes: Any) -> dict[str, str]:
        job = job_of(root, PRETRAIN, HEAD, TUNE)
        job["data_sets"] = {"reviews": job["data_sets"]["reviews"] | changes}
        return {stage.name: stage.key for stage in prepare(read_job(write(root, job))).plan.stages}

    before, after = keys(), keys(limit=20)
    assert {name for name in before if before[name] != after[name]} == {"reader", "tuned"}


def test_a_data_set_by_another_name_is_the_same_data(root: Path) -> None:
    job = job_of(root, PRETRAIN, HEAD, TUNE)
    named = prepare(read_job(write(root, job))).plan
    job["data_sets"] = {"opinions": job["data_sets"]["reviews"]}
    job["stages"] = [stage | ({"data": "opinions"} if "data" in stage else {}) for stage in job["stages"]]
    renamed = prepare(read_job(write(root, job))).plan
    assert [stage.key for stage in named.stages] == [stage.key for stage in renamed.stages]


def test_a_stage_whose_model_has_no_head_for_its_labels_is_refused(root: Path) -> None:
    found = refused(root, job_of(root, PRETRAIN, TUNE | {"student": "pretrained"}))
    assert found == [
        "`stages.tuned.student` is 'pretrained'; allowed: a model with a head for the 2 classes of its data; put a "
        "stage of kind head between them."
    ]


def test_text_is_not_read_by_a_classifier(root: Path) -> None:
    again = PRETRAIN | {"name": "again", "student": "reader"}
    found = refused(root, job_of(root, PRETRAIN, HEAD, again, TUNE))
    assert found == [
        "`stages.again.student` is 'reader'; allowed: a language model, as the stage works on text; this one tells "
        "classes apart."
    ]


def test_a_head_needs_labels(root: Path) -> None:
    head = {name: value for name, value in HEAD.items() if name != "data"}
    (found,) = refused(root, job_of(root, PRETRAIN, head, data_sets={}))
    assert found.startswith("`stages.reader.kind` is 'head'; allowed: labelled data (data.task)")


def test_faults_name_the_data_set_they_are_of(root: Path) -> None:
    job = job_of(root, PRETRAIN, HEAD, TUNE)
    job["data_sets"]["reviews"]["limit"] = 1
    (found,) = refused(root, job)
    assert found.startswith("`data_sets.reviews.limit` is 1; allowed: at least 2")
    job["data_sets"]["reviews"]["train"]["files"] = [str(root / "nothing.csv")]
    (found,) = refused(root, job)
    assert found.startswith("`data_sets.reviews.train.files[0]` is ")


def test_a_data_set_that_is_not_there_is_refused(root: Path) -> None:
    (found,) = refused(root, job_of(root, PRETRAIN, HEAD, TUNE | {"data": "review"}))
    assert found.endswith("is 'review'; allowed: one of data_sets: reviews. Did you mean `reviews`?")


def test_a_data_set_that_no_stage_names_is_refused(root: Path) -> None:
    (found,) = refused(root, job_of(root, PRETRAIN))
    assert found.startswith("`data_sets.reviews` is used by no stage")


def test_invalid_names_of_data_sets_are_refused(root: Path) -> None:
    job = job_of(root, PRETRAIN)
    job["data_sets"] = {"My Reviews": job["data_sets"]["reviews"]}
    (found,) = refused(root, job)
    assert found.startswith("`data_sets.My Reviews") and "lower-case letters" in found


def test_a_stage_that_reads_no_data_names_none(root: Path) -> None:
    (found,) = refused(root, job_of(root, PRETRAIN, HEAD, TUNE, EXPORT | {"data": "reviews"}))
    assert found.startswith("`stages.out.data` is 'reviews'; allowed: leave it out")
