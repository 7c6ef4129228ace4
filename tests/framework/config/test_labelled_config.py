"""Settings of labelled data and of self-correction: what is refused, with every remedy at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from espalier.config.correction import SignalConfig, WeightsConfig, check_correction
from espalier.config.data import HeldOutConfig
from espalier.config.faults import RefusedInput
from espalier.config.labelled import LabelledConfig, TableConfig
from espalier.jobs.load import read_job
from espalier.kinds.correct.kind import CorrectStage

JOB = """\
name: tidy
storage: /shared/runs
data:
  task: classification
  train: {source: csv, files: [train.csv], text: sentence, id: key}
  valid: {source: csv, files: [valid.csv], text: sentence}
  labels: [bad, good]
stages:
  - {name: parent, kind: load, model: owner/model}
  - {name: twins, kind: cross_fit, student: parent, budget: {epochs: 2}, batch: {sequences: 8}, optimizer: {lr: 1e-4}}
  - name: heal
    kind: correct
    student: parent
    teacher: twins
    budget: {epochs: 3}
    batch: {sequences: 8}
    optimizer: {lr: 1e-4}
"""
Said = Callable[..., list[str]]


@pytest.fixture
def said(tmp_path: Path) -> Said:
    def sentences(overrides: Sequence[str] = (), text: str = JOB) -> list[str]:
        (tmp_path / "job.yaml").write_text(text)
        with pytest.raises(RefusedInput) as refused:
            read_job(tmp_path / "job.yaml", overrides)
        for fault in refused.value.faults:
            assert fault.path and fault.allowed and (fault.value is not None or fault.given or "missing" in str(fault))
        return [str(fault) for fault in refused.value.faults]

    return sentences


def test_a_right_job_is_read(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    job = read_job(tmp_path / "job.yaml")
    assert isinstance(job.data, LabelledConfig) and isinstance(job.data.valid, TableConfig)
    assert job.data.labels == ("bad", "good") and job.data.watched == "accuracy"
    heal = job.stages[2]
    assert isinstance(heal, CorrectStage) and heal.inputs() == {"student": "parent", "teacher": "twins"}
    assert (heal.weights.alpha, heal.weights.rate, heal.weights.ceiling) == ("samme", None, 10.0)
    assert job.data.train.files == (str(tmp_path / "train.csv"),)


def test_a_held_out_side_and_a_regression(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB.replace("labels: [bad, good]", ""))
    changes = ["data.task=regression", "data.valid={fraction: 0.1}", "data.metric=mse"]
    data = read_job(tmp_path / "job.yaml", changes).data
    assert isinstance(data, LabelledConfig) and isinstance(data.valid, HeldOutConfig) and data.watched == "mse"
    assert read_job(tmp_path / "job.yaml", changes[:2]).data.watched == "pearson"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.task=ranking", r"`data\.task` .*is 'ranking'; allowed: one of classification, regression"),
        ("data.metric=mse", r"`data\.metric` .*is 'mse'; allowed: one of accuracy, f1, .* for classification"),
        ("data.metric=acuracy", r"`data\.metric` .*is 'acuracy'.*Did you mean `accuracy`"),
        ("data.labels=[bad]", r"`data\.labels` .*is \('bad',\); allowed: two or more different classes"),
        ("data.labels=[bad, bad]", r"`data\.labels` .*; allowed: two or more different classes"),
        ("data.labels=[bad, '']", r"`data\.labels\[1\]`"),
        ("data.labels=[true, no]", r"`data\.labels\[0\]` .*is True; allowed: text .*in quotes .*'true'"),
        ("data.labels=[1.0, 0]", r"`data\.labels\[0\]` .*is 1\.0; allowed: text .*in quotes .*'1\.0'"),
        ("data.names=[b]", r"`data\.names` .*is \('b',\); allowed: as many different names as `labels` has: 2"),
        ("data.names=[b, b]", r"`data\.names` .*; allowed: as many different names as `labels` has: 2"),
        ("data.names=[a, b, b]", r"`data\.names` .*; allowed: as many different names as `labels` has: 2"),
        ("data.limit=0", r"`data\.limit` .*is 0; allowed: a whole number above 0"),
        ("data.sequence_tokens=7", r"`data\.sequence_tokens` .*is 7; allowed: a whole number at least 8"),
        ("data.train.pair=other", r"`data\.valid\.pair` .*is missing; allowed: a column, as train\.pair is one"),
        ("data.valid.pair=other", r"`data\.valid\.pair` is 'other'; allowed: leave it out, as train\.pair is"),
        ("data.train.source=text", r"`data\.train\.source` .*is 'text'; allowed: one of tsv, csv, json, parquet, hub"),
        ("data.train.colums=[a]", r"`data\.train\.colums` .*Did you mean `columns`"),
        ("data.train.columns=[key, label]", r"`data\.train\.columns` .*; allowed: names that include sentence"),
        ("data.valid={fraction: 1.0}", r"`data\.valid\.fraction` .*is 1\.0; allowed: a number above 0 and below 1"),
        ("stages.heal.signal.weight=1.5", r"`stages\.heal\.signal\.weight` .*is 1\.5; allowed: a number at least 0"),
        ("stages.heal.signal.temperature=0", r"`stages\.heal\.signal\.temperature` .*; allowed: a number .* 0.01"),
        ("stages.heal.signal.own_past=[0, 2]", r"`stages\.heal\.signal\.own_past\[1\]` .*is 2"),
        ("stages.heal.signal.momentum=1", r"`stages\.heal\.signal\.momentum` .*; allowed: a number .*below 1"),
        ("stages.heal.weights.alpha=sammy", r"`stages\.heal\.weights\.alpha` .*Did you mean `samme`"),
        ("stages.heal.weights.rate=-1", r"`stages\.heal\.weights\.rate` .*is -1; allowed: .*at least 0 and at most 10"),
        ("stages.heal.weights.rate=1000", r"`stages\.heal\.weights\.rate` .*is 1000; allowed: .*at most 10"),
        ("stages.heal.weights.ceiling=0.5", r"`stages\.heal\.weights\.ceiling` .*is 0\.5; allowed: .*at least 1"),
        ("stages.heal.weights.floor=1.5", r"`stages\.heal\.weights\.floor` .*is 1\.5; allowed: .*at most 1"),
        ("stages.heal.weights.tolerance=0", r"`stages\.heal\.weights\.tolerance` .*is 0; allowed: a number above 0"),
        ("stages.heal.distrust.rule=strict", r"`stages\.heal\.distrust\.rule` .*; allowed: one of none, .*graded"),
        ("stages.heal.distrust.noise=1", r"`stages\.heal\.distrust\.noise` .*; allowed: a number at least 0 and"),
        ("stages.heal.distrust.epochs=0", r"`stages\.heal\.distrust\.epochs` .*; allowed: a whole number above 0"),
        ("stages.twins.folds=1", r"`stages\.twins\.folds` .*is 1; allowed: a whole number at least 2"),
        ("stages.twins.zero_level=optimizer", r"`stages\.twins\.zero_level` .*is 'optimizer'; allowed: none"),
    ],
)  # fmt: skip
def test_one_fault_is_one_sentence_with_its_remedy(said: Said, override: str, sentence: str) -> None:
    (found,) = said([override])
    assert re.search(sentence, found), found


def test_whole_numbers_are_classes_as_the_column_has_them(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    data = read_job(tmp_path / "job.yaml", ["data.labels=[0, 1]", "data.names=[7, good]"]).data
    assert isinstance(data, LabelledConfig) and data.labels == ("0", "1") and data.names == ("7", "good")


def test_columns_are_of_files_that_lack_names(said: Said) -> None:
    (found,) = said(["data.train={source: json, files: [a.jsonl], columns: [text, label]}"])
    assert re.search(r"`data\.train\.columns` .*; allowed: leave it out; only tsv and csv files lack names", found)


def test_all_faults_of_the_data_are_said_at_once(said: Said) -> None:
    found = said(
        ["data.task=regression", "data.metric=f1", "data.names=[a, b]", "data.balance=true", "data.train.pair=b"]
    )
    places = [re.match(r"`(.*?)`", sentence)[1] for sentence in found]
    assert places == ["data.metric", "data.labels", "data.names", "data.balance", "data.valid.pair"]


def test_all_faults_of_the_stages_are_said_at_once(said: Said) -> None:
    found = said(["stages.heal.weights.ceiling=0", "stages.heal.distrust.epochs=0", "stages.twins.folds=1"])
    places = {re.match(r"`(.*?)`", sentence)[1] for sentence in found}
    assert places == {"stages.heal.weights.ceiling", "stages.heal.distrust.epochs", "stages.twins.folds"}


def test_without_a_teacher_the_signal_needs_own_past(said: Said) -> None:
    lonely = JOB.replace("    teacher: twins\n", "")
    found = said([], lonely)
    assert [re.match(r"`(.*?)`", sentence)[1] for sentence in found] == [
        "stages.heal.signal.own_past",
        "stages.heal.weights.disagreement",
    ]
    assert "is [0.0, 0.0]; allowed: a share above 0 at the end, as no `teacher` is named; or name one" in found[0]
    assert "is 'teacher'; allowed: label, as there is no teacher" in found[1]


def test_without_a_teacher_the_first_epoch_needs_its_labels(said: Said) -> None:
    lonely = JOB.replace("    teacher: twins\n", "")
    (found,) = said(["stages.heal.signal={weight: 1.0, own_past: [1.0, 1.0]}"], lonely)
    assert re.search(r"`stages\.heal\.signal\.weight` .*is 1\.0; allowed: below 1, as without a `teacher`", found)


@pytest.mark.parametrize(
    ("signal", "weights", "teacher"),
    [
        ({"weight": 1.0}, {}, "twins"),
        ({"own_past": (0.0, 1.0)}, {}, None),
        ({"own_past": (1.0, 0.0)}, {"disagreement": "either"}, None),
        ({"weight": 0.0}, {"disagreement": "label"}, None),
    ],
)
def test_a_signal_with_a_source_is_accepted(signal: Any, weights: Any, teacher: str | None) -> None:
    check_correction(SignalConfig(**signal), WeightsConfig(**weights), teacher)
