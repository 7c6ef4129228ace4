"""The lineage drawing: boxes are inside the page, do not overlap, and each is right of its parent."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from espalier.report.layout import COLUMNS, laid_out
from espalier.report.lineage import lineage_drawing
from espalier.report.run import PlannedStage, read_run
from framework.report.runs import write_run


def stage(name: str, parent: str | None = None, **inputs: str) -> PlannedStage:
    return PlannedStage(name, "train" if parent else "load", ({"student": parent} if parent else {}) | inputs)


def chain(length: int, *, branches: int = 0) -> list[PlannedStage]:
    """`m0 -> m1 -> ...`; leaves come off `m1` and the next ones, `branches` in all."""
    made = [stage("m0")]
    for number in range(1, length):
        made.append(stage(f"m{number}", f"m{number - 1}"))
        made += [stage(f"leaf{number}", f"m{number}")] if number <= branches else []
    return made


@pytest.mark.parametrize("stages", [chain(1), chain(4), chain(18), chain(12, branches=11), chain(5, branches=4)])
def test_rows_of_models_fit_the_width_of_the_page(stages: list[PlannedStage]) -> None:
    spots = {spot.stage.name: spot for spot in laid_out(stages)}
    assert len({(spot.column, spot.row) for spot in spots.values()}) == len(stages)
    assert max(spot.column for spot in spots.values()) < COLUMNS
    for spot in spots.values():
        if spot.stage.parent:
            parent = spots[spot.stage.parent]
            assert spot.column == (parent.column + 1) % COLUMNS and spot.row >= parent.row
            assert spot.row > parent.row or spot.column > parent.column


def test_a_long_chain_wraps_into_rows_and_branches_share_a_row() -> None:
    spots = {spot.stage.name: (spot.row, spot.column) for spot in laid_out(chain(8, branches=7))}
    assert [spots[f"m{n}"] for n in range(4)] == [(0, n) for n in range(4)]
    assert [spots[f"leaf{n}"] for n in (1, 2, 3)] == [(1, 2), (1, 3), (1, 0)]
    assert [spots[f"m{n}"] for n in range(4, 8)] == [(2, n) for n in range(4)]


def test_a_branch_goes_on_and_branches_itself() -> None:
    stages = [*chain(6), stage("b", "m1"), stage("b1", "b"), stage("b2", "b1"), stage("c", "b"), stage("other")]
    spots = {spot.stage.name: (spot.row, spot.column) for spot in laid_out(stages)}
    assert spots["b"] == (1, 2) and spots["b1"] == (1, 3) and spots["b2"][1] == 0 and spots["other"][1] == 0
    assert len(set(spots.values())) == len(stages)


def test_models_of_a_cycle_are_left_out() -> None:
    assert [spot.stage.name for spot in laid_out([stage("a", "b"), stage("b", "a"), stage("c")])] == ["c"]


def test_a_teacher_that_stands_in_another_row_is_named(tmp_path) -> None:
    run = read_run(write_run(tmp_path))
    stages = [*chain(6), PlannedStage("student", "distill", {"student": "m5", "teacher": "m0"})]
    states, empty = ({one.name: word for one in stages} for word in ("done", ""))
    svg = ElementTree.fromstring(lineage_drawing(replace(run, stages=tuple(stages), states=states, messages=empty)))
    assert float(svg.get("width")) <= 1012
    assert [text.text for text in svg.iter("text") if text.get("class") == "taught"] == ["teacher m0"]
    assert len([path for path in svg.iter("path") if path.get("class") == "arrow"]) == 6


def test_a_long_name_is_cut_in_its_box_and_whole_in_its_tooltip(tmp_path) -> None:
    run = read_run(write_run(tmp_path))
    name = "a-name-of-many-letters"
    svg = ElementTree.fromstring(
        lineage_drawing(replace(run, stages=(stage(name),), states={name: "done"}, messages={name: ""}))
    )
    box = next(svg.iter("g"))
    assert box.find("title").text == name and box.find("text").text == "a-name-of-many-…"
