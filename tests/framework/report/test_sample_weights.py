import json
import re
import weakref
from dataclasses import replace
from io import StringIO
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from espalier.config.faults import RefusedInput
from espalier.report.page import write_report
from espalier.report.run import read_run
from espalier.report.weights import Folded, sample_weights
from espalier.tracking import sample_reader
from espalier.tracking.epochs import EPOCHS, EpochLog, list_path
from espalier_cluster.show_samples import show_suspects
from framework.report.labelled_runs import NUM_EPOCHS, write_labelled_run
from framework.report.runs import EVIL
from framework.report.test_page import Page
from framework.tracking.epochs import epoch, weights, write_confused, write_list


def shown(folder):
    return sample_weights(read_run(folder), "heal")


def heights(path: str) -> list[float]:
    return [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]


def test_only_stages_that_weigh_samples_are_shown(tmp_path):
    run = read_run(write_labelled_run(tmp_path))
    assert [stage for stage in run.steps if sample_weights(run, stage)] == ["heal"]
    assert shown(tmp_path).caption == "5 epochs, 97 samples"


def test_the_weight_chart_has_the_quantiles_of_every_epoch(tmp_path):
    svg = ElementTree.fromstring(shown(write_labelled_run(tmp_path)).chart)
    drawn = {name: [one.get("d") for one in svg.iter("path") if name in one.get("class")] for name in ("band", "curve")}
    outlines = [heights(path) for path in drawn["band"]]
    (median,) = [heights(path) for path in drawn["curve"]]
    assert [len(outline) for outline in outlines] == [2 * NUM_EPOCHS] * 3
    found = np.array([(outline[2 * NUM_EPOCHS - 1 - i], outline[i]) for outline in outlines for i in range(NUM_EPOCHS)])
    expected = np.array(
        [
            np.quantile(weights(number), sides)
            for sides in ((0.0, 1.0), (0.05, 0.95), (0.25, 0.75))
            for number in range(1, NUM_EPOCHS + 1)
        ]
    )
    medians = [np.quantile(weights(number), 0.5) for number in range(1, NUM_EPOCHS + 1)]
    slope, offset = np.polyfit(expected.ravel(), found.ravel(), 1)  # values to pixels
    assert slope < 0
    assert np.abs(slope * expected + offset - found).max() < 0.1
    assert np.abs(slope * np.array(medians) + offset - median).max() < 0.1


def test_measurements_of_the_correction_are_shown_beside_the_weights(tmp_path):
    titles = [title for title, _ in shown(write_labelled_run(tmp_path)).others]
    assert [title.split(",")[0].split(" of ")[0] for title in titles] == [
        "effective share",
        "agreement with the signal",
        "alpha",
    ]


def test_the_samples_that_count_most_come_first_with_their_texts(tmp_path):
    rows = shown(write_labelled_run(tmp_path)).heaviest
    assert [row.name for row in rows] == [f"s{sample:03d}" for sample in range(96, 76, -1)]
    assert rows[0].text == Folded("text 96")
    assert (rows[0].label, rows[0].teacher, rows[0].student) == ("good", "bad", "good")
    assert rows[0].weight == f"{weights(NUM_EPOCHS)[96]:.3g}"
    sparks = [heights(ElementTree.fromstring(row.weights).find("path").get("d")) for row in rows]
    assert all(len(spark) == NUM_EPOCHS for spark in sparks)
    assert sparks[0] == sorted(sparks[0], reverse=True)  # it rises
    assert min(sparks[0]) < min(sparks[-1])  # all are drawn to one scale


def test_the_most_suspect_labels_stand_in_their_lists_order(tmp_path):
    rows = shown(write_labelled_run(tmp_path)).suspects
    assert [row.name for row in rows] == [f"s{sample:03d}" for sample in range(40, 60)]
    assert (rows[0].doubt, rows[0].label, rows[0].teacher, rows[0].student) == ("0.9", "good", "bad", "bad")


def test_texts_are_escaped_on_the_page(tmp_path):
    html = write_report(write_labelled_run(tmp_path)).read_text()
    assert EVIL not in html
    assert sum(EVIL in text for text in Page(html).texts) >= 2 * 20  # text and pair of each suspect


def test_a_long_text_is_folded_and_cut(tmp_path):
    write_labelled_run(tmp_path)
    write_list(tmp_path, "heal", "suspects", [1], text="x" * 100_000)
    (row,) = shown(tmp_path).suspects
    assert len(row.text.beginning) < 200 and len(row.text.rest) < 2000 and row.text.rest.endswith("…")
    words = " ".join(["word"] * 100)
    assert Folded.of(words).beginning + Folded.of(words).rest == words
    assert Folded.of(words).rest.startswith(" word") and Folded.of("short").rest == ""


def test_answers_against_the_label_are_marked_where_there_are_classes(tmp_path):
    html = write_report(write_labelled_run(tmp_path)).read_text()
    assert html.count('<td class="other">') == sum(
        (s % 2 == 0) + (s % 3 != 0) for s in [*range(40, 60), *range(77, 97)]
    )
    job = json.loads((tmp_path / "job.json").read_text())
    job["data"]["task"] = "regression"
    (tmp_path / "job.json").write_text(json.dumps(job))
    assert '<td class="other">' not in write_report(tmp_path).read_text()


def test_without_lists_samples_have_names_and_answers_still(tmp_path):
    found = shown(write_labelled_run(tmp_path, lists=False))
    assert found.suspects == ()
    row = found.heaviest[0]
    assert (row.name, row.text.beginning, row.label, row.teacher, row.student) == ("s096", "", "", "bad", "good")
    assert "The most suspect labels" not in write_report(tmp_path).read_text()


def test_samples_of_text_go_by_their_numbers(tmp_path):
    row = shown(write_labelled_run(tmp_path, lists=False, bare=True)).heaviest[0]
    assert (row.name, row.text.beginning, row.teacher) == ("96", "", "")
    write_report(tmp_path)


def test_epochs_that_were_taken_back_or_lost_their_file_are_left_out(tmp_path):
    write_labelled_run(tmp_path)
    EpochLog(tmp_path / EPOCHS).rewind("heal", epoch(3).step)
    (tmp_path / epoch(2).samples).unlink()
    found = shown(tmp_path)
    assert found.caption.startswith("2 epochs")
    assert found.heaviest[0].weight == f"{weights(3)[96]:.3g}"


def test_the_caption_gives_label_noise_and_signal_trust(tmp_path):
    write_labelled_run(tmp_path)
    last = epoch(NUM_EPOCHS)
    told = replace(last, correction=last.correction | {"noise": 0.214, "heard": 0.5})
    EpochLog(tmp_path / EPOCHS).rewind("heal", epoch(NUM_EPOCHS - 1).step)
    EpochLog(tmp_path / EPOCHS).append(told)
    assert shown(tmp_path).caption.endswith("97 samples, 21% of the labels look wrong, 50% of the signal is trusted")


@pytest.mark.parametrize(("trust", "words"), [(0.0, "no evidence"), (0.3, "30% of the"), (1.0, "")])
def test_the_list_of_suspects_warns_when_the_signal_is_not_trusted(tmp_path, trust, words):
    write_labelled_run(tmp_path)
    last = epoch(NUM_EPOCHS)
    EpochLog(tmp_path / EPOCHS).rewind("heal", epoch(NUM_EPOCHS - 1).step)
    EpochLog(tmp_path / EPOCHS).append(replace(last, correction=last.correction | {"heard": trust}))
    console = Console(file=StringIO(), width=120)
    show_suspects(console, tmp_path, "heal")
    page = " ".join(page_text for page_text in Page(write_report(tmp_path).read_text()).texts)
    for said in (page, console.file.getvalue()):
        assert (words in said) if words else ("in the last epoch" not in said)


def test_one_epoch_can_be_drawn(tmp_path):
    write_labelled_run(tmp_path)
    EpochLog(tmp_path / EPOCHS).rewind("heal", epoch(1).step)
    svg = ElementTree.fromstring(shown(tmp_path).chart)
    bands = [one.get("d") for one in svg.iter("path") if "band" in one.get("class")]
    assert all(len({x for x in re.findall(r"[ML]([\d.]+) ", path)}) == 2 for path in bands)  # none has no width


def test_no_more_than_one_column_of_an_epoch_is_in_memory(tmp_path, monkeypatch):
    read, alive, columns = sample_reader.sample_column, [], []

    def counted(path, name):
        assert [one for one in alive if one() is not None] == []
        column = read(path, name)
        alive.append(weakref.ref(column))
        columns.append(name)
        return column

    monkeypatch.setattr(sample_reader, "sample_column", counted)
    shown(write_labelled_run(tmp_path))
    assert columns == ["weight"] * (NUM_EPOCHS + 1) + ["teacher", "student"]


@pytest.mark.parametrize("name", ["suspects", "heaviest"])
def test_a_list_that_is_missing_leaves_the_other(tmp_path, name):
    write_labelled_run(tmp_path)
    (tmp_path / list_path("heal", name)).unlink()
    found = shown(tmp_path)
    assert (len(found.heaviest), len(found.suspects)) == (20, 0 if name == "suspects" else 20)
    write_report(tmp_path)


def test_many_classes_and_long_texts_leave_the_page_readable(tmp_path):
    """150 classes: pairs instead of columns, a few suspects of each class, texts folded, nothing that cannot wrap."""
    names = [f"a_class_with_a_long_name_{number:03d}" for number in range(150)]
    folder = write_labelled_run(tmp_path, labels=[str(number) for number in range(150)], names=names)
    text = f"{EVIL} " + "a long text " * 400
    many = {sample: names[sample % 30] for sample in range(97)}
    write_list(folder, "heal", "suspects", list(many), text=text, labels=many, why="fold models answer `x` with 0.97")
    write_confused(folder, "heal", [(names[i], names[149 - i], 90 - i, 0.9, 0.05) for i in range(60)])
    found = shown(folder)
    assert [row.label for row in found.suspects[:4]] == [names[0], names[0], names[1], names[1]]
    assert len(found.suspects) == 40 and found.by_class
    assert [cell.text for cell in found.confused.rows[0]] == [names[0], names[149], "90", "0.90", "5.0%"]
    html = write_report(folder).read_text()
    assert len(html) < 400_000
    assert EVIL not in html and html.count("<details>") >= 40 and "fold models answer" in html
    assert max(row.count("<td") for row in html.split("<tr>")) <= 8
    (fixed,) = {word for word in re.findall(r"min-width: *([0-9]+)px", html) if int(word) > 360} or {"0"}
    assert fixed == "0"


def test_few_classes_are_listed_by_doubt_with_their_reasons(tmp_path):
    folder = write_labelled_run(tmp_path)
    write_list(folder, "heal", "suspects", [3, 4], why="fold models answer `bad` with 0.97", probability="0.97")
    found = shown(folder)
    assert not found.by_class and [row.name for row in found.suspects] == ["s003", "s004"]
    html = write_report(folder).read_text()
    assert html.count('<p class="why">') == 2 and "<small>0.97</small>" in html
    assert found.confused is None and "contradicted most often" not in html


def test_a_list_of_confused_classes_that_somebody_has_changed_is_refused(tmp_path):
    folder = write_labelled_run(tmp_path)
    write_confused(folder, "heal", [("good", "bad", 3, "much", 0.1)])
    with pytest.raises(RefusedInput, match="row 1 has a number that is none"):
        shown(folder)
