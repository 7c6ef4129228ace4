import json
from xml.etree import ElementTree

import pytest

from espalier.report.confusion import confusion
from espalier.report.lineage import lineage_drawing
from espalier.report.page import write_report
from espalier.report.run import read_run
from espalier.report.tables import model_grid
from espalier.report.validation import validation_charts
from espalier.report.verdict import judge
from framework.report.labelled_runs import HEAL, write_labelled_run, write_scores
from framework.report.test_page import Page


def grid_of(run):
    return model_grid(run, run.evaluation())


def confusion_of(run):
    return confusion(run, run.evaluation())


def cells(run, title: str) -> list[tuple[str, str]]:
    grid = grid_of(run)
    place = grid.headings.index(title)
    return [(row[place].text, row[place].note) for row in grid.rows]


def test_the_verdict_is_the_watched_metric_of_both_models(tmp_path):
    verdict = judge(read_run(write_labelled_run(tmp_path)))
    assert verdict.headline == "Accuracy 75.0 % → 80.0 %"
    assert verdict.sentences == (
        "From vanilla to heal, on 100 validation samples, where an accuracy has a standard error of 4.0 points.",
    )
    assert [(tile.label, tile.value, tile.note) for tile in verdict.tiles[:2]] == [
        ("accuracy", "80.0 %", "vanilla 75.0 %"),
        ("change", "+5.0 points", "against vanilla"),
    ]
    assert [tile.label for tile in verdict.tiles[2:]] == ["time"]  # the size is the same


def test_models_of_two_sizes_are_told_apart(tmp_path):
    write_labelled_run(tmp_path)
    write_scores(tmp_path, "f1", heal=HEAL | {"parameters": 20_000}, vanilla=HEAL | {"parameters": 40_000})
    verdict = judge(read_run(tmp_path))
    assert verdict.headline == "F1 62.5 % → 62.5 %"
    assert verdict.sentences == ("From vanilla to heal, on 100 validation samples.",)
    assert [(tile.value, tile.note) for tile in verdict.tiles[1:3]] == [
        ("0.0 points", "against vanilla"),
        ("−50 %", "40.0 k → 20.0 k"),  # noqa: RUF001
    ]


def test_a_model_alone_is_compared_with_nothing(tmp_path):
    write_labelled_run(tmp_path)
    write_scores(tmp_path, "accuracy", heal=HEAL)
    verdict = judge(read_run(tmp_path))
    assert verdict.headline == "Accuracy 80.0 %"
    assert verdict.sentences[0].startswith("heal, on 100 validation samples, where")
    assert [tile.label for tile in verdict.tiles] == ["accuracy", "time"]


def test_the_watched_metric_has_the_first_column_and_changes_in_its_own_measure(tmp_path):
    run = read_run(write_labelled_run(tmp_path))
    assert grid_of(run).headings[:7] == ("model", "accuracy", "F1", "macro F1", "Matthews", "loss", "parameters")
    assert cells(run, "model") == [("vanilla", ""), ("heal", "")]
    assert cells(run, "accuracy") == [("75.0 %", ""), ("80.0 %", "+5.0 points")]
    assert cells(run, "Matthews") == [("0.400", ""), ("0.450", "+0.050")]
    assert cells(run, "loss") == [("0.8", ""), ("0.6", "−25 %")]  # noqa: RUF001
    assert cells(run, "parameters") == [("31.9 k", ""), ("31.9 k", "")]
    write_scores(tmp_path, "matthews", heal=HEAL)
    assert grid_of(read_run(tmp_path)).headings[:3] == ("model", "Matthews", "accuracy")


def test_a_metric_of_zero_still_has_a_change(tmp_path):
    write_labelled_run(tmp_path)
    write_scores(tmp_path, "f1", heal=HEAL, vanilla=HEAL | {"f1": 0.0, "loss": 0.0})
    run = read_run(tmp_path)
    assert cells(run, "F1")[1] == ("62.5 %", "+62.5 points")
    assert cells(run, "loss")[1] == ("0.6", "+0.600")


def test_the_confusion_matrix_has_labels_as_rows(tmp_path):
    found = confusion_of(read_run(write_labelled_run(tmp_path)))
    assert found.grid.headings == ("label", "bad", "good")
    assert [[cell.text for cell in row] for row in found.grid.rows] == [["bad", "62", "8"], ["good", "12", "18"]]
    assert [cell.share for cell in found.grid.rows[1]] == [None, pytest.approx(0.4), pytest.approx(0.6)]
    assert found.sentence.startswith("What heal answers")


def test_classes_that_nobody_named_are_numbered(tmp_path):
    assert confusion_of(read_run(write_labelled_run(tmp_path, labels=[], names=[]))).grid.headings[1:] == (
        "class 0",
        "class 1",
    )


def test_of_many_classes_the_frequent_mistakes_are_shown(tmp_path):
    write_labelled_run(tmp_path)
    counts = [[50 if row == column else 0 for column in range(77)] for row in range(77)]
    counts[5][6], counts[70][1] = 9, 31
    write_scores(tmp_path, "accuracy", heal=HEAL | {"confusion": counts})
    found = confusion_of(read_run(tmp_path))
    assert [[cell.text for cell in row] for row in found.grid.rows] == [
        ["class 70", "class 1", "31"],
        ["class 5", "class 6", "9"],
    ]
    assert "77 classes" in found.sentence


def test_a_regression_has_its_own_metrics_and_no_confusion(tmp_path):
    write_labelled_run(tmp_path, task="regression", labels=[], names=[])
    values = {"pearson": 0.5, "spearman": 0.4, "r2": -0.25, "mse": 0.25, "mae": 0.4, "loss": 0.25}
    write_scores(tmp_path, "mse", heal=values, vanilla=values | {"mse": 0.5})
    run = read_run(tmp_path)
    assert judge(run).headline == "MSE 0.5 → 0.25"
    assert judge(run).tiles[1].value == "−50 %"  # noqa: RUF001
    assert grid_of(run).headings[1:6] == ("MSE", "Pearson", "Spearman", "R²", "MAE")
    assert confusion_of(run) is None
    assert "Answers that differ" not in write_report(tmp_path).read_text()


def test_the_page_of_labelled_data_has_no_words_about_text_models(tmp_path):
    html = write_report(write_labelled_run(tmp_path)).read_text()
    assert "perplexity" not in html
    assert "nats per token" not in html and "loss per sample" in html
    assert "Measured on the validation samples." in html


def test_the_page_needs_nothing_else_and_runs_nothing(tmp_path):
    page = Page(write_report(write_labelled_run(tmp_path)).read_text())
    assert page.references == []
    assert not {"script", "link", "iframe", "img", "object", "a"} & set(page.tags)


def test_corrected_models_are_in_the_lineage_and_fold_models_are_not(tmp_path):
    svg = ElementTree.fromstring(lineage_drawing(read_run(write_labelled_run(tmp_path))))
    boxes = [list(box.itertext())[:2] for box in svg.iter("g")]
    assert boxes == [["parent", "loaded"], ["vanilla", "trained"], ["heal", "corrected"]]


def test_validation_has_a_curve_for_each_metric_with_the_watched_one_first(tmp_path):
    run = read_run(write_labelled_run(tmp_path, metric="f1"))
    charts = validation_charts(run, "vanilla")
    assert [title for title, _ in charts] == ["F1", "accuracy", "loss"]
    (curve,) = [one for one in ElementTree.fromstring(charts[1][1]).iter("path") if "curve" in one.get("class")]
    heights = [float(part.split()[1]) for part in curve.get("d").replace("L", "M").split("M")[1:]]
    assert len(heights) == 5 and heights == sorted(heights, reverse=True)  # it rises
    assert ">best</text>" in charts[0][1]
    assert validation_charts(run, "parent") == ()


@pytest.mark.parametrize(
    ("until", "headline", "curves"), [("parent", "31.9 k parameters", 0), ("twins", "31.9 k parameters", 1)]
)
def test_an_unfinished_run_is_shown_up_to_its_present_state(tmp_path, until, headline, curves):
    page = Page(write_report(write_labelled_run(tmp_path, until=until, lists=False)).read_text())
    assert headline in page.texts
    assert "Sample weights" not in page.texts
    assert page.texts.count("On the validation samples, epoch by epoch") == curves


def test_a_gate_that_failed_is_told(tmp_path):
    path = write_labelled_run(tmp_path) / "stages" / "scores" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "gate_failed"}))
    verdict = judge(read_run(tmp_path))
    assert (verdict.status, verdict.headline) == ("stopped at a gate", "Accuracy 75.0 % → 80.0 %")
