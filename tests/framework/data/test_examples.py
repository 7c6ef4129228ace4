"""Labelled samples: which are read, how they are split, drawn and weighed, and what is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from labelled_tables import origin, read, refusal, write_csv

from espalier.config.labelled import LabelledConfig
from espalier.data.examples import Examples, read_labelled

LETTERS = [(f"text {number}", "ab"[number % 2]) for number in range(20)]
VALID = [("valid one", "a"), ("valid two", "b")]


@pytest.fixture
def valid(tmp_path: Path) -> dict[str, Any]:
    return origin(write_csv(tmp_path / "valid.csv", VALID))


def write_json(path: Path, labels: list[Any]) -> dict[str, Any]:
    lines = [json.dumps({"text": f"text {number}", "label": label}) for number, label in enumerate(labels)]
    path.write_text("\n".join(lines))
    return origin(path, source="json")


def test_values_of_the_table_are_read_unchanged(tmp_path: Path) -> None:
    header = ("key", "first", "second", "kind", "counts")
    rows = [("k1", "a", "b", "no", 1), ("k2", "c", "d", "yes", 2.5), ("k3", "e", "f", "no", 2.5)]
    named = {"text": "first", "pair": "second", "label": "kind", "id": "key", "weight": "counts"}
    train = origin(write_csv(tmp_path / "train.csv", rows, header=header), **named)
    valid = origin(write_csv(tmp_path / "valid.csv", [("k1", "g", "h", "yes", 1)], header=header), **named)
    found = read(train, valid, labels=["no", "yes"], names=["contradiction", "entailment"])
    assert found.train.names == ("k1", "k2", "k3") and found.train.texts == ("a", "c", "e")
    assert found.train.pairs == ("b", "d", "f") and found.valid.pairs == ("h",)
    assert found.train.targets.tolist() == [0, 1, 0] and found.train.targets.dtype == np.int64
    np.testing.assert_allclose(found.train.weights, [0.5, 1.25, 1.25])
    assert (found.classes, found.names) == (("no", "yes"), ("contradiction", "entailment"))


def test_a_regression_has_numbers(tmp_path: Path) -> None:
    rows = [("one", "1.5"), ("two", "-2e3"), ("three", " 0 ")]
    train = origin(write_csv(tmp_path / "train.csv", rows))
    valid = origin(write_csv(tmp_path / "valid.csv", [("four", "7")]))
    found = read(train, valid, task="regression")
    assert found.train.targets.tolist() == [1.5, -2000.0, 0.0] and found.train.targets.dtype == np.float64
    assert found.classes == found.names == () and found.train.pairs is None


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([10, 9, 2, 10], ("2", "9", "10")),
        (["10", "9", "-1", "0"], ("-1", "0", "9", "10")),
        (["1.0", "10.0", "2.0"], ("1.0", "2.0", "10.0")),
        (["b", "a", "B", "10"], ("10", "B", "a", "b")),
        ([True, False], ("0", "1")),
    ],
)
def test_classes_are_sorted_numbers_by_their_value(
    tmp_path: Path, valid: dict[str, Any], labels: list[Any], classes: tuple[str, ...]
) -> None:
    train = write_json(tmp_path / "train.jsonl", labels)
    valid = {**write_json(tmp_path / "valid.jsonl", labels[:1]), "text": "label_text"}
    (tmp_path / "valid.jsonl").write_text(json.dumps({"label_text": "apart", "label": labels[0]}))
    assert read(train, valid).classes == classes


def test_classes_of_one_value_have_one_order(tmp_path: Path) -> None:
    """Strings hash differently in each worker, so that the order of a set is no order."""
    rows = [(f"text {i}", label) for i, label in enumerate(["1", "01", "001", "+1", "1.0", "+1.00", "+01"] * 9)]
    found = read(origin(write_csv(tmp_path / "train.csv", rows)))
    assert found.classes == ("+01", "+1", "+1.00", "001", "01", "1", "1.0")


def test_equal_texts_are_in_one_split(tmp_path: Path) -> None:
    rows = [(f"text {number % 13}", "ab"[number % 2]) for number in range(52)]
    found = read(origin(write_csv(tmp_path / "train.csv", rows)))
    assert len(found.train) + len(found.valid) == 52
    assert not set(found.train.texts) & set(found.valid.texts)


def test_a_pair_is_equal_where_both_texts_are(tmp_path: Path) -> None:
    rows = [("same", f"other {number}", "ab"[number % 2]) for number in range(40)]
    found = read(origin(write_csv(tmp_path / "train.csv", rows, header=("text", "b", "label")), pair="b"))
    assert len(found.valid) == 10 and not set(found.train.pairs) & set(found.valid.pairs)


def test_the_held_out_side_depends_on_texts_alone(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    first = read(origin(write_csv(path, LETTERS)), seed=1)
    random.Random(3).shuffle(shuffled := list(LETTERS))
    second = read(origin(write_csv(path, shuffled)), seed=2)
    assert set(first.valid.texts) == set(second.valid.texts)


def test_the_held_out_side_keeps_the_share_of_each_class(tmp_path: Path) -> None:
    rows = [(f"text {number}", "often" if number % 10 else "seldom") for number in range(200)]
    found = read(origin(write_csv(tmp_path / "train.csv", rows)), {"fraction": 0.3})
    assert np.bincount(found.valid.targets).tolist() == [54, 6]
    numbers = [(text, number) for number, (text, _) in enumerate(rows)]
    regression = read(origin(write_csv(tmp_path / "n.csv", numbers)), {"fraction": 0.3}, task="regression")
    assert len(regression.valid) == 60


def test_training_samples_that_are_validation_samples_too_are_left_out(tmp_path: Path, valid: dict[str, Any]) -> None:
    rows = [*LETTERS, ("valid two", "a")]
    header = ("text", "label")
    found = read(origin(write_csv(tmp_path / "train.csv", rows, header=header)), valid)
    assert found.train.texts == tuple(text for text, _ in LETTERS)
    assert found.valid.texts == ("valid one", "valid two")


def test_a_limit_draws_by_the_seed_and_more_of_the_same(tmp_path: Path, valid: dict[str, Any]) -> None:
    train = origin(write_csv(tmp_path / "train.csv", LETTERS))
    few, more, other = (read(train, valid, limit=limit, seed=seed).train for limit, seed in ((6, 5), (11, 5), (6, 8)))
    assert len(few) == 6 and len(more) == 11
    assert set(few.names) < set(more.names) and set(other.names) != set(few.names)
    assert list(few.names) == sorted(few.names, key=int), "samples keep their order"
    assert few.names == read(train, valid, limit=6, seed=5).train.names
    assert len(read(train, valid, limit=1000).train) == 20


def test_a_limit_keeps_the_share_of_each_class_and_one_of_each(tmp_path: Path, valid: dict[str, Any]) -> None:
    names = ["a"] * 150 + ["b"] * 47 + ["c"] * 3
    train = origin(write_csv(tmp_path / "train.csv", [(f"text {row}", name) for row, name in enumerate(names)]))
    for seed in range(5):
        few, more, most = (
            np.bincount(read(train, valid, limit=limit, seed=seed).train.targets) for limit in (3, 20, 100)
        )
        assert few.tolist() == [1, 1, 1]
        np.testing.assert_allclose(more, 20 * np.array([150, 47, 3]) / 200, atol=1.5)
        np.testing.assert_allclose(most, 100 * np.array([150, 47, 3]) / 200, atol=1.5)
    (said,) = refusal(train, valid, limit=2)
    assert said == (
        "`data.limit` is 2; allowed: at least 3, as so many classes have training samples, and each needs one."
    )


def test_weights_have_mean_one_on_each_side(tmp_path: Path) -> None:
    rows = [(text, label, 1 + number) for number, (text, label) in enumerate(LETTERS)]
    train = origin(write_csv(tmp_path / "train.csv", rows, header=("text", "label", "w")), weight="w")
    for limit in (None, 7):
        found = read(train, limit=limit).train
        assert found.weights.mean() == pytest.approx(1.0, abs=1e-15)
        expected = np.array([int(text.split()[1]) + 1.0 for text in found.texts])
        np.testing.assert_allclose(found.weights, expected / expected.mean())


def test_huge_weights_do_not_overflow(tmp_path: Path, valid: dict[str, Any]) -> None:
    rows = [(text, label, "1.5e308") for text, label in LETTERS]
    train = origin(write_csv(tmp_path / "train.csv", rows, header=("text", "label", "w")), weight="w")
    assert read(train, valid).train.weights.tolist() == [1.0] * 20


@pytest.mark.parametrize("weighed", [False, True])
def test_balanced_classes_have_equal_total_weight(tmp_path: Path, valid: dict[str, Any], weighed: bool) -> None:
    rows = [(f"text {number}", "a" if number < 17 else "b" if number < 19 else "c", 1 + number) for number in range(20)]
    train = origin(write_csv(tmp_path / "t.csv", rows, header=("text", "label", "w")), weight="w" if weighed else None)
    found = read(train, valid, balance=True).train
    of_class = np.bincount(found.targets, weights=found.weights)
    np.testing.assert_allclose(of_class, 20 / 3)
    assert found.weights.mean() == pytest.approx(1.0)
    inside = found.weights[:17] / found.weights[0]
    np.testing.assert_allclose(inside, np.arange(1, 18) if weighed else np.ones(17))


def test_samples_are_called_by_row_and_file(tmp_path: Path, valid: dict[str, Any]) -> None:
    one = write_csv(tmp_path / "a.csv", LETTERS[:2])
    assert read(origin(one), valid).train.names == ("2", "3")
    write_csv(tmp_path / "b.csv", [("more", "a")])
    both = origin(tmp_path / "?.csv")
    assert read(both, valid).train.names == ("a.csv:2", "a.csv:3", "b.csv:2")


def test_files_of_one_name_give_samples_names_of_their_own(tmp_path: Path, valid: dict[str, Any]) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        write_csv(tmp_path / folder / "part.csv", [(f"{folder} one", "a"), (f"{folder} two", "b")])
    found = read(origin(tmp_path / "[xy]" / "part.csv"), valid).train
    assert found.names == ("x/part.csv:2", "x/part.csv:3", "y/part.csv:2", "y/part.csv:3")


def said_of(tmp_path: Path, rows: list[Any], *, settings: dict[str, Any] | None = None, **data: Any) -> str:
    header = ("text", "label", *(settings or {}).values())
    train = origin(write_csv(tmp_path / "train.csv", rows, header=header), **(settings or {}))
    (sentence,) = refusal(train, **data)
    return sentence


def test_a_label_outside_the_map_is_refused_with_what_was_meant(tmp_path: Path) -> None:
    said = said_of(tmp_path, [*LETTERS, ("text", "A")], labels=["a", "b"])
    assert f"names {tmp_path}/train.csv, refused for row 22" in said
    assert "one of the classes a, b, not 'A'" in said and "mend the row, or extend data.labels" in said
    assert "did you mean negative?" in said_of(tmp_path, [("x", "negativ")], labels=["negative", "positive"])


def test_a_validation_label_that_training_never_has_is_refused(tmp_path: Path) -> None:
    train = origin(write_csv(tmp_path / "train.csv", LETTERS))
    (said,) = refusal(train, origin(write_csv(tmp_path / "valid.csv", [("x", "c")])))
    assert "`data.valid.files`" in said
    assert "one of the classes a, b, not 'c'; mend the row, or give a training sample of it" in said


@pytest.mark.parametrize("label", [None, "", float("nan"), ["a"], {"a": 1}])
def test_missing_labels_are_refused(tmp_path: Path, label: Any) -> None:
    (said,) = refusal(write_json(tmp_path / "train.jsonl", ["a", "b", label]))
    assert "refused for row 3; allowed: a class in the label column, not " in said


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    rows = [(text, "a") for text, _ in LETTERS]
    for labels in ([], ["a", "b"]):
        said = said_of(tmp_path, rows, labels=labels)
        assert said == "`data.train.label` has the one class a; allowed: two classes or more with training samples."


def test_classes_without_a_training_sample_are_named(tmp_path: Path) -> None:
    said = said_of(tmp_path, LETTERS, labels=["a", "b", "c", "d"])
    assert (
        "`data.labels` is ('a', 'b', 'c', 'd'); allowed: a training sample of every class; there is none of c, d"
        in said
    )


def test_ids_that_come_twice_are_refused(tmp_path: Path) -> None:
    rows = [("one", "a", "x"), ("two", "b", "y"), ("three", "b", "x")]
    said = said_of(tmp_path, rows, settings={"id": "key"})
    assert "row 2; allowed: an id of its own for each sample; 'x' stands in 2 rows" in said


@pytest.mark.parametrize("blank", ["", " ", None])
def test_a_row_without_an_id_is_refused(tmp_path: Path, blank: str | None) -> None:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2], "id": blank if n == 3 else n} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (said,) = refusal(origin(tmp_path / "rows.jsonl", source="json", id="id"))
    assert "row 4; allowed: an id, as the column has none here" in said


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        ("nan", "a finite number in the weight column, not 'nan'"),
        ("inf", "a finite number in the weight column, not 'inf'"),
        ("", "a finite number in the weight column, not ''"),
        ("0", "a weight above 0, not 0"),
        ("-1", "a weight above 0, not -1"),
    ],
)
def test_weights_that_are_no_positive_numbers_are_refused(tmp_path: Path, weight: str, said: str) -> None:
    rows = [("one", "a", 1), ("two", "b", weight)]
    assert f"row 3; allowed: {said}" in said_of(tmp_path, rows, settings={"weight": "w"})


@pytest.mark.parametrize("label", ["high", "", "nan", "1e999", "1" * 400])
def test_labels_of_a_regression_must_be_numbers(tmp_path: Path, label: str) -> None:
    said = said_of(tmp_path, [("one", "1"), ("two", label)], task="regression")
    assert "row 3; allowed: a finite number in the label column, not " in said


def test_a_whole_number_that_no_float_holds_is_no_label(tmp_path: Path) -> None:
    (said,) = refusal(write_json(tmp_path / "train.jsonl", [1, 10**400]), task="regression")
    assert "row 2; allowed: a finite number in the label column" in said


def test_labels_of_a_regression_must_differ(tmp_path: Path) -> None:
    said = said_of(tmp_path, [(text, "2.5") for text, _ in LETTERS], task="regression")
    assert said == "`data.train.label` is 2.5 in every row; allowed: numbers that differ."


@pytest.mark.parametrize("text", ["", "  ", "\t\n"])
def test_blank_texts_are_refused(tmp_path: Path, text: str) -> None:
    said = said_of(tmp_path, [(text, "a"), *LETTERS])
    assert "allowed: a text that is not blank; mend the row, or data.train.skip_blank: true" in said


def test_empty_sides_are_refused(tmp_path: Path, valid: dict[str, Any]) -> None:
    empty = origin(write_csv(tmp_path / "empty.csv", []))
    train = origin(write_csv(tmp_path / "train.csv", LETTERS))
    for given, side in (((empty, valid), "train"), ((empty, None), "train"), ((train, empty), "valid")):
        (said,) = refusal(*given)
        assert said.startswith(f"`data.{side}` has no sample; allowed: at least one sample on each side")
    (said,) = refusal(train, {"fraction": 0.01})
    assert said.startswith("`data.valid` has no sample")
    (said,) = refusal(valid, valid)
    assert said.startswith("`data.train` has no sample")


def test_what_is_wrong_with_both_sides_is_said_at_once(tmp_path: Path) -> None:
    train = origin(write_csv(tmp_path / "train.csv", [(text, "a") for text, _ in LETTERS]))
    said = refusal(train, origin(write_csv(tmp_path / "empty.csv", [])), labels=["a", "b"])
    assert [sentence.split()[0] for sentence in said] == ["`data.valid`", "`data.train.label`"]


def test_parquet_without_text_is_refused(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None], "label": [0, 1]}), tmp_path / "t.parquet")
    (said,) = refusal(origin(tmp_path / "t.parquet", source="parquet"))
    assert "row 2; allowed: text in the text column, not NoneType" in said


def test_the_key_depends_on_texts_and_order(tmp_path: Path) -> None:
    rows = [(f"text number {number}", "ab"[number % 2]) for number in range(40)]
    path = tmp_path / "samples.csv"
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))

    def key(file: Path, seed: int) -> str:
        settings = {"task": "classification", "train": {"source": "csv", "files": [str(file)]}}
        settings |= {"valid": {"fraction": 0.25}, "limit": 10, "labels": ["a", "b"]}
        return read_labelled(LabelledConfig.model_validate(settings, strict=False), seed=seed).train.key

    assert key(path, 1) == key(path, 1) != key(path, 2)
    whole = Examples(("1",), ("x",), None, np.array([0]), np.ones(1))
    assert whole.key == Examples(("1",), ("x",), None, np.array([1]), np.ones(1)).key, "labels may be mended"
