import csv

import numpy as np
import pytest

from espalier.config.formats import shown_data
from espalier.stages.result import StageResult
from espalier.tracking import payload, sample_reader
from espalier.tracking.epochs import table_path
from espalier.tracking.samples import SampleTable, write_samples
from framework.tracking.epochs import CLASSES, NUM_SAMPLES, epoch, weights, write_epoch, write_list

COLUMNS = ("name", "text", "label", "teacher", "student", "weight")


def test_the_heaviest_samples_come_first_with_what_is_known_of_them(tmp_path):
    write_epoch(tmp_path, epoch(2))
    write_list(tmp_path, "heal", "heaviest", [96, 95], pair="and more")
    write_list(tmp_path, "heal", "suspects", [60])
    columns, rows = payload.heaviest_table(tmp_path, epoch(2), weights(2), CLASSES)
    assert columns == COLUMNS
    assert len(rows) == 50
    assert rows[0] == ("s096", "text 96\nand more", "good", "bad", "good", float(weights(2)[96]))
    assert rows[1][:5] == ("s095", "text 95\nand more", "good", "good", "bad")
    assert rows[2][:5] == ("s094", None, None, "bad", "bad")
    assert rows[36][:3] == ("s060", "text 60", "good")
    assert [row[-1] for row in rows] == sorted((row[-1] for row in rows), reverse=True)


def test_samples_without_names_classes_or_answers_go_by_numbers(tmp_path):
    write_epoch(tmp_path, epoch(1))
    numbers = payload.heaviest_table(tmp_path, epoch(1), weights(1), ())[1]
    assert numbers[0] == ("s096", None, None, "0", "1", float(weights(1)[96]))
    assert payload.heaviest_table(tmp_path, epoch(1), weights(1), ("bad",))[1][0][3:5] == ("bad", "1")
    write_epoch(tmp_path, epoch(1, stage="text"), bare=True)
    bare = payload.heaviest_table(tmp_path, epoch(1, stage="text"), weights(1), ())[1]
    assert bare[0] == ("96", None, None, None, None, float(weights(1)[96]))


def test_answers_of_a_regression_are_numbers_whatever_the_classes(tmp_path):
    values = np.array([0.5, -1.25, 3.0], np.float32)
    write_samples(tmp_path / "a.parquet", SampleTable(values, values, teacher=values), data="d")
    chosen = np.array([2, 1])
    assert sample_reader.sample_answers(tmp_path / "a.parquet", "teacher", chosen, CLASSES) == ["3", "-1.25"]
    assert sample_reader.sample_answers(tmp_path / "a.parquet", "student", chosen, CLASSES) == [None, None]


def test_of_equal_weights_the_first_sample_comes_first():
    assert sample_reader.heaviest(np.array([1, 3, 2, 3, 3], np.float32), 3).tolist() == [1, 3, 4]
    assert sample_reader.heaviest(np.array([1, 2], np.float32), 3).tolist() == [1, 0]


def test_a_column_is_read_alone(tmp_path):
    write_epoch(tmp_path, epoch(1))
    path = tmp_path / table_path("heal", 1)
    assert sample_reader.sample_column(path, "weight").tolist() == weights(1).tolist()
    assert sample_reader.sample_column(path, "belief") is None


def test_the_histogram_counts_every_sample_once():
    counts, edges = payload.weight_histogram(weights(3))
    assert (len(counts), len(edges), counts.sum()) == (64, 65, NUM_SAMPLES)
    assert (edges[0], edges[-1]) == pytest.approx((weights(3).min(), weights(3).max()))


def test_a_list_may_hold_long_texts_and_leaves_csv_as_it_was(tmp_path, request):
    before = csv.field_size_limit(1024)
    request.addfinalizer(lambda: csv.field_size_limit(before))
    write_list(tmp_path, "heal", "suspects", [3, 4, 5], text="long, \n" * 1024)
    rows = sample_reader.read_list(tmp_path, "heal", "suspects", 2)
    assert [row["sample"] for row in rows] == ["3", "4"]
    assert rows[1]["text"].endswith("\n 4")
    assert csv.field_size_limit() == 1024
    assert sample_reader.read_list(tmp_path, "heal", "heaviest") == []


def test_models_on_labelled_data_have_the_watched_metric_first():
    models = {
        "corrected": {"accuracy": 0.75, "f1": 0.5, "confusion": [[1, 0], [1, 2]], "parameters": 7},
        "vanilla": {"accuracy": 0.5, "f1": 0.25, "confusion": [[1, 0], [2, 1]], "parameters": 7},
    }
    result = StageResult("scores", "evaluate", "k", "done", None, {"watched": "f1", "models": models})
    columns, rows = payload.model_table(result)
    assert columns == ("model", "f1", "accuracy", "parameters")
    assert rows == [("corrected", 0.5, 0.75, 7), ("vanilla", 0.25, 0.5, 7)]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({"labels": ("0", "1"), "names": ("bad", "good")}, ("bad", "good")),
        ({"labels": ["a", "b"], "names": []}, ("a", "b")),
        ({"labels": (), "names": ()}, ()),
        ({"train": {}}, ()),
    ],
)
def test_classes_are_called_what_the_job_calls_them(data, names):
    assert shown_data({"task": "classification", **data}).classes == names
