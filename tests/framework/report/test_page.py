import json
import time
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from espalier.report.changes import signed_percent
from espalier.report.lineage import lineage_drawing
from espalier.report.page import write_report
from espalier.report.run import PlannedStage, read_run
from espalier.report.tables import cost_grid, model_grid, samples, settings_rows
from espalier.report.verdict import judge
from framework.report.runs import EVIL, NUM_STEPS, write_run


class Page(HTMLParser):
    """Tags, whatever refers outside, and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]

    def handle_data(self, text):
        self.texts.append(text)


def page_of(folder) -> Page:
    return Page(write_report(folder).read_text())


def test_the_verdict_comes_first(tmp_path):
    page = page_of(write_run(tmp_path))
    assert page.texts[page.texts.index("134.5 M → 104.9 M parameters, perplexity 24.1 → 29.0") - 1].isspace()
    assert "healed closed 77 % of the gap in log-perplexity that pruning opened." in page.texts
    assert page.tags.index("h1") < page.tags.index("details") < page.tags.index("svg") < page.tags.index("table")


def test_the_page_needs_nothing_else_and_runs_nothing(tmp_path):
    write_run(tmp_path)
    html = write_report(tmp_path).read_text()
    page = Page(html)
    assert page.references == []
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    assert "url(http" not in html and "@import" not in html


def test_text_of_the_run_is_escaped(tmp_path):
    html = write_report(write_run(tmp_path)).read_text()
    assert EVIL not in html
    assert sum(EVIL in text for text in Page(html).texts) >= 3  # a job setting, a prompt, generated text


def test_models_are_in_the_order_in_which_they_were_made(tmp_path):
    run = read_run(write_run(tmp_path))
    grid = model_grid(run, run.evaluation())
    assert [row[0].text for row in grid.rows] == ["parent", "pruned", "healed"]
    perplexity = grid.headings.index("perplexity")
    assert [row[perplexity].text for row in grid.rows] == ["24.10", "53.70", "29.00"]
    assert [row[perplexity].note for row in grid.rows] == ["", "+123 %", "+20.3 %"]
    assert [name for name, _ in samples(run, run.evaluation())[0].texts] == ["parent", "pruned", "healed"]


def test_costs_add_up(tmp_path):
    grid = cost_grid(read_run(write_run(tmp_path)))
    assert [row[0].text for row in grid.rows] == [
        "parent",
        "pruned",
        "healed",
        "scores",
        "exported",
        "all stages",
    ]
    time = [row[grid.headings.index("time")] for row in grid.rows]
    assert time[-1].text == "6:02 min"
    assert sum(cell.share for cell in time[:-1]) == pytest.approx(1.0)


@pytest.mark.parametrize(("until", "num_steps"), [("parent", 0), ("pruned", 0), ("pruned", 113), ("healed", NUM_STEPS)])
def test_an_unfinished_run_is_shown_up_to_its_present_state(tmp_path, until, num_steps):
    write_run(tmp_path, until=until, num_steps=num_steps)
    page = page_of(tmp_path)
    text = " ".join(page.texts)
    assert "134.5 M → 104.9 M parameters" in page.texts
    assert "under way" in page.texts
    assert "no evaluation has finished" in text
    assert ("no step has been taken" in text) == (num_steps == 0)
    assert ("healed is at step 113 of 311" in text) == (num_steps == 113)


def test_an_empty_folder_makes_a_page(tmp_path):
    assert "Nothing to show yet" in page_of(tmp_path).texts


def grown_run(folder, *, against: tuple[str, ...]):
    """A run that grew from `pruned` to `parent`, never measured as it was loaded."""
    run = read_run(write_run(folder))
    evaluation = run.results["scores"]
    models = {name: evaluation.metrics["models"][name] for name in ("parent", *against)}
    inputs = {"model": "parent"} | {f"against[{place}]": name for place, name in enumerate(against)}
    small, large = (run.stage(name).shape for name in ("pruned", "parent"))
    stages = (
        PlannedStage("start", "load", shape=small | {"parameters": 33_628_752}),
        PlannedStage("parent", "grow", {"student": "start"}, large),
        PlannedStage("pruned", "load", shape=small),
        PlannedStage("scores", "evaluate", inputs),
    )
    measured = replace(evaluation, metrics={"models": models, "gap_closed": 0.5})
    states, messages = ({stage.name: word for stage in stages} for word in ("done", ""))
    return replace(run, stages=stages, states=states, messages=messages, results={"scores": measured})


@pytest.mark.parametrize(
    ("against", "headline", "sentence"),
    [
        (("pruned",), "104.9 M → 134.5 M parameters, perplexity 53.7 → 24.1", "From pruned to parent."),
        ((), "134.5 M parameters, perplexity 24.1", "parent, beside no other model."),
    ],
)
def test_a_model_that_grew_is_shown_as_it_was_measured(tmp_path, against, headline, sentence):
    verdict = judge(grown_run(tmp_path, against=against))
    assert (verdict.headline, *verdict.sentences) == (headline, sentence)
    assert [tile.label for tile in verdict.tiles[:2]] == ["parameters", "perplexity"]


def test_models_of_one_size_are_compared_by_what_differs(tmp_path):
    run = grown_run(tmp_path, against=("pruned",))
    for model in run.results["scores"].metrics["models"].values():
        model["parameters"] = 134_515_008
    verdict = judge(run)
    assert verdict.headline == "134.5 M parameters, perplexity 53.7 → 24.1"
    assert [tile.label for tile in verdict.tiles] == ["perplexity", "time"]


def test_a_model_that_grew_is_more_than_all_of_what_it_came_from(tmp_path):
    svg = ElementTree.fromstring(lineage_drawing(grown_run(tmp_path, against=())))
    box = next(one for one in svg.iter("g") if one.find("text").text == "parent")
    assert "400 %" in list(box.itertext())
    widths = {bar.get("class"): float(bar.get("width")) for bar in box.iter("rect")}
    assert widths["fill"] == widths["track"]


def test_a_failed_gate_is_told_at_the_top(tmp_path):
    write_run(tmp_path, until="scores")
    path = tmp_path / "stages" / "scores" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "gate_failed"}))
    verdict = judge(read_run(tmp_path))
    assert (verdict.tone, verdict.status) == ("bad", "stopped at a gate")
    assert "scores: gate failed." in verdict.sentences
    assert verdict.headline.endswith("perplexity 24.1 → 29.0")


def test_the_lineage_goes_from_left_to_right_and_names_the_teacher(tmp_path):
    run = read_run(write_run(tmp_path, until="pruned", num_steps=7))
    svg = ElementTree.fromstring(lineage_drawing(run))
    boxes = [one for one in svg.iter("g")]
    lefts = [float(box.get("transform")[len("translate(") :].split()[0]) for box in boxes]
    assert [box.find("text").text for box in boxes] == ["parent", "pruned", "healed", "exported"]
    assert lefts == sorted(set(lefts))
    assert ["104.9 M" in list(box.itertext()) for box in boxes] == [False, True, True, True]
    assert [box.get("class") for box in boxes] == [
        "model done",
        "model done",
        "model running",
        "model pending",
    ]
    assert len([one for one in svg.iter("path") if one.get("class") == "taught"]) == 1
    assert len([one for one in svg.iter("path") if one.get("class") == "arrow"]) == 3


def test_every_term_of_the_loss_has_a_curve_and_a_resume_a_mark(tmp_path):
    html = write_report(write_run(tmp_path, terms=3)).read_text()
    assert all(f">{name}</li>" in html for name in ("loss", "forward_kl", "cross_entropy", "jsd"))
    assert html.count('class="mark"') == 2 * 4  # a line and a word in each of four charts
    assert "2 attempts" in html


@pytest.mark.parametrize(("ratio", "text"), [(0.778, "−22.2 %"), (1.25, "+25 %"), (1.0, "0 %")])  # noqa: RUF001
def test_changes_carry_their_sign(ratio, text):
    assert signed_percent(ratio) == text


def test_every_evaluation_is_shown(tmp_path):
    write_run(tmp_path)
    plan = json.loads((tmp_path / "plan.json").read_text())
    earlier = {"name": "first-look", "kind": "evaluate", "inputs": {"model": "pruned"}, "shape": None}
    (tmp_path / "plan.json").write_text(json.dumps([*plan[:2], earlier, *plan[2:]]))
    result = json.loads((tmp_path / "stages" / "scores" / "result.json").read_text())
    model = {"perplexity": 987.65, "parameters": 104_852_160, "samples": [{"prompt": "Early", "text": "words"}]}
    (tmp_path / "stages" / "first-look").mkdir()
    (tmp_path / "stages" / "first-look" / "result.json").write_text(
        json.dumps(result | {"stage": "first-look", "metrics": {"models": {"pruned": model}}})
    )
    page = page_of(tmp_path)
    text = " ".join(page.texts)
    assert "987.65" in text and "Early" in page.texts and "29.00" in text
    assert page.texts.index("first-look") < page.texts.index("scores")
    assert "134.5 M → 104.9 M parameters, perplexity 24.1 → 29.0" in page.texts, "the last one is the headline"


def test_timestamps_are_shown_in_the_local_time_zone(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        rows = dict(
            settings_rows({"created": "2026-11-28T15:20:30+00:00", "versions": {"torch": "2026-11-28"}, "n": 3})
        )
    finally:
        monkeypatch.undo()
        time.tzset()
    assert rows == {"created": "2026-11-28 20:50:30 IST", "versions.torch": "2026-11-28", "n": "3"}
