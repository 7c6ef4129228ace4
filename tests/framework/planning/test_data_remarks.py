"""Classes, their sizes, and what looks like a mistake in them, are said by `plan` and `run`."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from espalier.config.labelled import LabelledConfig
from espalier.data.examples import read_labelled
from espalier.formats.labelled.remarks import data_remarks, near_equal
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from espalier_cluster.show import show_plan, show_remarks
from support.labelled import write_labelled_job


def remarks(root: Path, given: list[Any], **settings: Any) -> tuple[str, ...]:
    """Of a table with these labels, in two rows each, and a validation side of one row each."""
    for name, times in (("train", 2), ("valid", 1)):
        rows = [{"text": f"{name} {i} {n}", "label": label} for i, label in enumerate(given) for n in range(times)]
        (root / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    sides = {name: {"source": "json", "files": [str(root / f"{name}.jsonl")]} for name in ("train", "valid")}
    data = LabelledConfig.model_validate({"task": "classification", **sides, **settings})
    return data_remarks(data, read_labelled(data, seed=1))


@pytest.mark.parametrize(
    ("classes", "alike"),
    [
        (("neg", "neg ", "pos"), [("neg", "neg ")]),
        (("NEG", "neg", "Neg", "pos"), [("NEG", "neg", "Neg")]),
        (("0", "0.0", "1", "1.0"), [("0", "0.0"), ("1", "1.0")]),
        (("1", "01", "+1", "1e0", "2"), [("1", "01", "+1", "1e0")]),
        (("true", "True", "false"), [("true", "True")]),
        (("1", "true", "0", "False"), [("1", "true"), ("0", "False")]),
        (("not  good", "not good", "good"), [("not  good", "not good")]),
        (("caf\u00e9", "cafe\u0301", "cafe"), [("caf\u00e9", "cafe\u0301")]),
        (("a", "b", "inf", "nan"), []),
    ],
)
def test_near_equal_classes_are_found(classes: tuple[str, ...], alike: list[tuple[str, ...]]) -> None:
    assert near_equal(classes) == alike


def test_classes_and_their_counts_are_said(tmp_path: Path) -> None:
    found = remarks(tmp_path, ["neg", "pos", "pos", "neg "])
    assert found[0] == "data: 8 training and 4 validation samples"
    assert "'neg' 2 + 1, 'neg ' 2 + 1, 'pos' 4 + 2" in found[1] and found[1].startswith("3 classes")
    assert found[2].startswith("warning: the classes 'neg', 'neg ' differ") and len(found) == 3


def test_numbers_of_one_file_that_are_spelt_twice_are_warned_of(tmp_path: Path) -> None:
    assert any("'1', '1.0'" in text for text in remarks(tmp_path, [1, 1.0, 0, True]))


def test_listed_classes_are_not_warned_of(tmp_path: Path) -> None:
    assert not any("warning" in text for text in remarks(tmp_path, ["neg", "neg "], labels=["neg", "neg "]))


def test_many_classes_are_cut_off(tmp_path: Path) -> None:
    assert remarks(tmp_path, [f"c{n:03}" for n in range(31)])[1].endswith("'c019' 2 + 1, and 11 more")


def test_numbers_have_a_range(tmp_path: Path) -> None:
    assert remarks(tmp_path, [-1, 2.5, 0], task="regression")[1:] == (
        "labels: numbers from -1 to 2.5, in the mean 0.5",
    )


def test_training_samples_that_are_also_validation_samples_are_counted(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(7)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "valid.jsonl").write_text("\n".join(map(json.dumps, rows[:3])))
    sides = {name: {"source": "json", "files": [str(tmp_path / f"{name}.jsonl")]} for name in ("train", "valid")}
    data = LabelledConfig.model_validate({"task": "classification", **sides})
    found = data_remarks(data, read_labelled(data, seed=1))
    assert found[0].startswith("data: 4 training and 3") and found[1].startswith("3 training samples are left out")


def test_plan_shows_remarks_without_control_characters(tmp_path: Path) -> None:
    prepared = prepare(read_job(write_labelled_job(tmp_path)))
    console = Console(file=StringIO(), width=200)
    show_plan(console, prepared)
    assert "2 classes (training + validation samples): 'bad' " in console.file.getvalue()
    show_remarks(console, ["warning: [/red] \x1b[2J"])
    assert "[/red]" in console.file.getvalue() and "\x1b[2J" not in console.file.getvalue()
