"""What cannot work with labelled data, or only with it: every fault with its remedy, all at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from espalier.config.faults import RefusedInput
from espalier.config.labelled import LabelledConfig
from espalier.data.examples import read_labelled
from espalier.data.found import FoundData
from espalier.formats.labelled.look import look
from espalier.jobs.job import Job
from espalier.models.classifier import classifier_config
from espalier.planning.checked import Checked
from espalier.planning.checks import plan_faults
from espalier.planning.preview import StagePreview
from espalier.planning.sources import Source
from espalier.planning.text_checks import text_remarks
from espalier.stages.plan import build_plan
from espalier.tracking.samples import SampleTable, write_samples
from support.architectures import CONFIGS

TRAINED = {
    "student": "parent",
    "budget": {"steps": 2},
    "batch": {"sequences": 1},
    "optimizer": {"lr": 0.1},
}
HEAL = {"name": "heal", "kind": "correct", "teacher": "parent", **TRAINED}
TWINS = {"name": "twins", "kind": "cross_fit", "folds": 3, **TRAINED}
MODEL = CONFIGS["bert_masked_lm"] | {"max_position_embeddings": 4096}
TEXT = {"train": {"source": "text", "files": ["/text/*.txt"]}, "valid": {"fraction": 0.1}}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """Eight training samples of two classes."""
    (tmp_path / "train.tsv").write_text("".join(f"text {row}\t{row % 2}\n" for row in range(8)))
    (tmp_path / "valid.tsv").write_text("valid one\t0\nvalid two\t1\n")
    table = {"source": "tsv", "columns": ["text", "label"]}
    sides = {side: {**table, "files": [str(tmp_path / f"{side}.tsv")]} for side in ("train", "valid")}
    return {"task": "classification", **sides}


def job_of(data: dict[str, Any], *stages: dict[str, Any]) -> Job:
    load = {"name": "parent", "kind": "load", "model": "owner/model"}
    return Job.model_validate({"name": "j", "storage": "/runs", "data": data, "stages": [load, *stages]})


def said(data: dict[str, Any], *stages: dict[str, Any]) -> list[str]:
    faults = list(plan_faults(checked_of(data, *stages)))
    for fault in faults:
        assert fault.path and fault.allowed
        assert fault.value is not None or fault.given is not None or "is missing" in str(fault)
    return [str(fault) for fault in faults]


def checked_of(data: dict[str, Any], *stages: dict[str, Any]) -> Checked:
    job = job_of(data, *stages)
    over_labels = isinstance(job.data, LabelledConfig)
    found = look(job.data, seed=0, path="data") if over_labels else FoundData(job.data)
    plan = build_plan(job.stages, context={})
    model = classifier_config(MODEL, names=found.labelled.names, setting="model") if found.labelled else MODEL
    source = Source(model, None, "one")
    models = {stage.name: StagePreview(stage, "parent", model, makes_model=True) for stage in plan.stages}
    return Checked(job, plan, models, {"parent": source}, {None: found})


def weights(data: dict[str, Any], path: Path, values: list[float], *, key: str | None = None) -> str:
    table = SampleTable(*(np.array(values, dtype=np.float32),) * 2)
    write_samples(path, table, data=key or read_labelled(job_of(data, HEAL).data, seed=0).train.key)
    return str(path)


def test_right_jobs_have_no_faults(data: dict[str, Any], tmp_path: Path) -> None:
    train = {"name": "vanilla", "kind": "train", "validation": {"patience": 1}, **TRAINED}
    scores = {"name": "scores", "kind": "evaluate", "model": "vanilla", "gate": {"metric": {"min": 0.1}}}
    (tmp_path / "out").write_text("3\n")
    heal = HEAL | {"teacher": "twins", "distrust": {"exclude": str(tmp_path / "out")}}
    heal |= {"weights": {"initial": weights(data, tmp_path / "w.parquet", [1.0] * 8)}}
    assert said(data, train, scores, TWINS, heal) == []
    numbers = {**data, "task": "regression"}
    distill = {"name": "d", "kind": "distill", "teacher": "parent", "losses": [{"function": "squared_distance"}]}
    tolerant = HEAL | {"weights": {"tolerance": 0.5}}
    linear = HEAL | {"name": "linear", "weights": {"measure": "probability"}}
    assert said(numbers, distill | TRAINED, tolerant, linear, TWINS) == []
    assert said({**data, "metric": "f1"}, train) == []
    assert said(TEXT, HEAL) == []


def test_what_only_text_has_is_refused_all_at_once(data: dict[str, Any]) -> None:
    prune = {"name": "slim", "kind": "prune", "student": "parent", "target": {"layers": 1}}
    gate = {"perplexity": {"max": 9.0}, "perplexity_ratio": {"max": 1.1}}
    scores = {"name": "scores", "kind": "evaluate", "model": "parent", "against": ["parent"], "prompts": ["once"]}
    scores |= {"sequences": 4, "unrolled": {"depth": 9}}
    distill = {"name": "d", "kind": "distill", "teacher": "parent", "losses": [
        {"function": "forward_kl"}, {"function": "squared_error"}, {"function": "squared_distance"},
    ]}  # fmt: skip
    assert said(data, prune, scores | {"gate": gate}, distill | TRAINED) == [
        "`stages.slim.kind` is 'prune'; allowed: a stage over text, on which importance is measured: prune before "
        "fine-tuning, or give text as its `data`.",
        "`stages.scores.gate.perplexity` is 'a range'; allowed: gate.metric, which bounds accuracy here.",
        "`stages.scores.gate.perplexity_ratio` is 'a range'; allowed: gate.metric, which bounds accuracy here.",
        "`stages.scores.prompts` is ['once']; allowed: leave it out; a classifier writes nothing.",
        "`stages.scores.sequences` is 4; allowed: leave it out; only a job over text reads it.",
        "`stages.scores.unrolled` is 'settings'; allowed: leave it out; only a job over text reads it.",
        "`stages.d.losses[1].function` is 'squared_error'; allowed: one of cross_entropy, forward_kl, "
        "reverse_kl, jsd, skewed_forward_kl, skewed_reverse_kl, hidden_mse, hidden_cosine here.",
        "`stages.d.losses[2].function` is 'squared_distance'; allowed: one of cross_entropy, forward_kl, "
        "reverse_kl, jsd, skewed_forward_kl, skewed_reverse_kl, hidden_mse, hidden_cosine here.",
    ]


def test_losses_of_classes_are_none_of_a_regression(data: dict[str, Any]) -> None:
    losses = [{"function": name} for name in ("squared_error", "forward_kl", "cross_entropy")]
    distill = {"name": "d", "kind": "distill", "teacher": "parent", "losses": losses, **TRAINED}
    found = said({**data, "task": "regression"}, distill)
    assert [re.match(r"`(.*?)`", sentence)[1] for sentence in found] == [
        "stages.d.losses[1].function",
        "stages.d.losses[2].function",
    ]
    assert all(
        "one of squared_error, squared_distance, hidden_mse, hidden_cosine here" in sentence for sentence in found
    )


def test_what_only_labels_have_is_refused_over_text_all_at_once(tmp_path: Path) -> None:
    train = {"name": "vanilla", "kind": "train", "validation": {}, **TRAINED}
    scores = {"name": "scores", "kind": "evaluate", "model": "vanilla", "gate": {"metric": {"min": 0.1}}}
    heal = HEAL | {
        "teacher": "twins",
        "signal": {"own_past": [0.0, 0.5], "momentum": 0.5, "min_skill": 0.5, "full_at_noise": 0.1},
        "weights": {
            "disagreement": "label",
            "measure": "probability",
            "predictions": "training",
            "tolerance": 0.5,
            "initial": str(tmp_path / "absent.parquet"),
        },
        "distrust": {"exclude": str(tmp_path / "absent"), "rule": "persistent", "epochs": 3, "noise": 0.1},
    }
    found = said(TEXT, train, scores, TWINS, heal)
    assert [re.match(r"`(.*?)`", sentence)[1] for sentence in found] == [
        "stages.vanilla.validation",
        "stages.scores.gate.metric",
        "stages.twins.kind",
        "stages.heal.teacher",
        "stages.heal.signal.own_past",
        "stages.heal.weights.disagreement",
        "stages.heal.signal.momentum",
        "stages.heal.weights.measure",
        "stages.heal.weights.predictions",
        "stages.heal.weights.tolerance",
        "stages.heal.weights.initial",
        "stages.heal.distrust.exclude",
        "stages.heal.distrust.rule",
        "stages.heal.distrust.epochs",
        "stages.heal.distrust.noise",
        "stages.heal.signal.min_skill",
        "stages.heal.signal.full_at_noise",
    ]
    assert "is 0.5; allowed: leave it out; only a job with labelled data reads it" in found[6]


def test_text_is_corrected_by_a_teacher(tmp_path: Path) -> None:
    alone = HEAL | {"teacher": None, "signal": {"own_past": [0.0, 1.0]}}
    found = said(TEXT, alone)
    assert found[0].startswith("`stages.heal.teacher` is missing; allowed: a stage that makes a model")
    assert found[1].startswith("`stages.heal.signal.own_past` is [0.0, 1.0]; allowed: [0, 0] over text")


def test_a_regression_needs_a_measure_of_disagreement(data: dict[str, Any]) -> None:
    (found,) = said({**data, "task": "regression"}, HEAL)
    assert found.startswith("`stages.heal.weights.measure` is 'class'; allowed: probability, which takes distances")
    assert said({**data, "task": "regression"}, HEAL | {"weights": {"rate": 0.0}}) == []
    assert said({**data, "task": "regression"}, TWINS, HEAL | {"teacher": "twins"}) == [], "nothing is raised by itself"
    (found,) = said(data, HEAL | {"weights": {"tolerance": 0.5}})
    assert found.startswith("`stages.heal.weights.tolerance` is 0.5; allowed: leave it out")


def test_f1_is_of_two_classes(data: dict[str, Any], tmp_path: Path) -> None:
    """Measured it would be missing only after the first epoch."""
    (tmp_path / "train.tsv").write_text("".join(f"text {row}\t{row % 3}\n" for row in range(8)))
    (found,) = said({**data, "metric": "f1"}, HEAL)
    assert found.startswith("`data.metric` is 'f1'; allowed: f1_macro or f1_weighted, as there are 3 classes")
    assert said({**data, "metric": "f1_macro"}, HEAL) == []


def test_folds_are_at_most_the_samples(data: dict[str, Any]) -> None:
    assert said(data, TWINS | {"folds": 8}) == []
    (found,) = said(data, TWINS | {"folds": 9})
    assert found == "`stages.twins.folds` is 9; allowed: at most the 8 different texts of the training samples."
    path = Path(data["train"]["files"][0])
    path.write_text(path.read_text().replace("text 7", "text 5"))
    (found,) = said(data, TWINS | {"folds": 8})
    assert found == "`stages.twins.folds` is 8; allowed: at most the 7 different texts of the training samples."


def test_settings_that_fold_models_do_not_read_are_refused_all_at_once(data: dict[str, Any]) -> None:
    settings = {"validation": {}, "guard": {"nan": "skip"}, "checkpoint": {"every": 7}, "optimizer_state": "keep"}
    assert said(data, TWINS | settings) == [
        f"`stages.twins.{name}` is '{given}'; allowed: leave it out; only a stage that leaves a trained model reads it."
        for name, given in zip(settings, ("settings", "settings", "settings", "keep"), strict=True)
    ]


def test_first_weights_and_exclusions_of_something_else_are_refused_at_once(
    data: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("3\nthird\n")
    initial = weights(data, tmp_path / "w.parquet", [1.0] * 8, key="of other data")
    absent = str(tmp_path / "absent.parquet")
    found = said(
        data,
        HEAL | {"weights": {"initial": initial}, "distrust": {"exclude": str(tmp_path / "out")}},
        HEAL | {"name": "again", "weights": {"initial": absent}},
    )
    assert [re.match(r"`(.*?)`", sentence)[1] for sentence in found] == [
        "stages.heal.distrust.exclude",
        "stages.heal.weights.initial",
        "stages.again.weights.initial",
    ]
    assert "'third' stands" in found[0] and "rows of another data set" in found[1] and absent in found[2]


def test_first_weights_that_the_ceiling_does_not_let_reach_a_mean_of_one_are_refused(
    data: dict[str, Any], tmp_path: Path
) -> None:
    path = weights(data, tmp_path / "w.parquet", [1.0] + [0.0] * 7)
    (found,) = said(data, HEAL | {"weights": {"initial": path, "ceiling": 7.5}})
    assert (
        found == f"`stages.heal.weights.ceiling` is 7.5; allowed: at least 8, as 1 of 8 weights in {path} are above 0."
    )
    for enough in ({"ceiling": 8.0}, {"ceiling": 4.5, "floor": 0.5}):
        assert said(data, HEAL | {"weights": {"initial": path, **enough}}) == []


def test_a_class_of_one_text_is_told_of_as_no_fold_model_knows_it(data: dict[str, Any], tmp_path: Path) -> None:
    rows = (tmp_path / "train.tsv").read_text()

    def told() -> list[str]:
        assert said(data, TWINS) == []
        return list(text_remarks(checked_of(data, TWINS)))

    assert told() == []
    (tmp_path / "train.tsv").write_text(f"{rows}only one\trare\nonly one\trare\ntext 1\trarer\n")
    (sentence,) = told()
    assert sentence.startswith("warning: data has a single text of 'rare', 'rarer'; the fold model that predicts it")
    (tmp_path / "train.tsv").write_text(f"{rows}only one\trare\nanother\trare\n")
    assert told() == []


def test_one_class_is_named_with_its_column(data: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("one\t0\ntwo\t0\n")
    (tmp_path / "valid.tsv").write_text("three\t0\n")
    with pytest.raises(RefusedInput, match=r"`data.train.label` has the one class 0; allowed: two classes or more"):
        said(data, TWINS)
