"""Comparing trainings: totals over stages, growth, and the cost of reaching the same loss."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from espalier.config.faults import RefusedInput
from espalier.report.compare import baseline_of, compare, write_page
from espalier.report.page import render
from espalier.report.run import PlannedStage, RunRecord
from espalier.report.training_curves import Point, TrainingCurve, training_curves_of
from espalier.stages.result import Cost, StageResult
from espalier.tracking.record import StepRecord

_STAGES = (
    PlannedStage("start", "load", shape={"layers": 1}),
    PlannedStage("small", "train", {"student": "start"}, {"layers": 1}),
    PlannedStage("grow", "grow", {"student": "small"}, {"layers": 4}),
    PlannedStage("large", "train", {"student": "grow"}, {"layers": 4}),
    PlannedStage("whole", "load", shape={"layers": 4}),
    PlannedStage("baseline", "train", {"student": "whole"}, {"layers": 4}),
)


def steps(stage: str, losses: list[float], flops: float, depth: float | None = None) -> tuple[StepRecord, ...]:
    return tuple(
        StepRecord(
            stage=stage, kind="train", step=number, num_steps=len(losses), global_step=number, attempt=1,
            time=float(number), loss=loss, terms={}, lr=1e-3, gradient_norm=1.0, tokens=100 * number,
            step_seconds=flops / 2, tokens_per_second=1.0, peak_bytes=1, flops=flops * number, depth=depth,
        )
        for number, loss in enumerate(losses, 1)
    )  # fmt: skip


def run_of(large: list[float], baseline: list[float]) -> RunRecord:
    measured = {"models": {"large": {"nll": 2.5}, "baseline": {"nll": 2.6}}}
    result = StageResult("scores", "evaluate", "k", "done", None, measured, Cost())
    taken = {
        "small": steps("small", [9.0, 1.0, 8.0], flops=1, depth=2.5),
        "large": steps("large", large, flops=4),
        "baseline": steps("baseline", baseline, flops=4),
    }
    return RunRecord(
        folder=Path(),
        job={"name": "n"},
        run={},
        stages=_STAGES,
        states={stage.name: "done" for stage in _STAGES},
        messages={stage.name: "" for stage in _STAGES},
        results={"scores": result},
        steps={stage.name: taken.get(stage.name, ()) for stage in _STAGES},
        epochs={stage.name: () for stage in _STAGES},
        goodput=None,
    )


RUN = run_of([5.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0], [6.0] * 5 + [3.0] * 5)


def test_a_training_curve_spans_growth_up_to_the_last_trained_stage() -> None:
    grown, baseline = training_curves_of(RUN, run_name="r")
    assert [grown.label, baseline.label] == ["r:large", "r:baseline"]
    assert [point.tokens for point in grown.points] == [100, 200, 300, *range(400, 1100, 100)]
    assert [point.flops for point in grown.points] == [1, 2, 3, *range(7, 32, 4)]
    assert grown.points[-1].seconds == 1.5 + 14
    assert [(point.tokens, word) for point, word in grown.growths] == [(300, "4 layers")]
    assert (grown.nll, baseline.nll) == (2.5, 2.6)


def test_the_baselines_loss_is_searched_among_steps_of_the_whole_model() -> None:
    grown, baseline = training_curves_of(RUN)
    assert baseline.final_loss == 3.0
    reached = grown.reaches(baseline.final_loss)
    assert reached is not None and reached.flops == 3 + 6 * 4, "the lucky step of a lesson does not count"
    assert grown.reaches(2.0) is None


def test_steps_with_a_sampled_depth_are_left_out_of_the_loss() -> None:
    points = [Point(n, n, n, loss, whole=loss > 2) for n, loss in enumerate([4.0, 1.0, 4.0, 1.0])]
    curve = TrainingCurve("x", tuple(points), (), None)
    assert [point.loss for point in curve.smooth()] == [4.0] and curve.reaches(3.0) is None


def test_a_single_low_loss_after_growing_does_not_count_as_reached() -> None:
    grown, baseline = training_curves_of(run_of([2.0, 6.0, 6.0, 6.0, 6.0, 3.0, 3.0], [3.0] * 10))
    assert grown.reaches(baseline.final_loss) is None
    short, _ = training_curves_of(run_of([2.0, 4.0], [3.0] * 10))
    assert short.final_loss == 3.0 and short.reaches(3.0) == short.smooth()[-1], "all steps are one window"


def test_the_cost_of_growing_is_part_of_the_curve() -> None:
    growth = StageResult("grow", "grow", "k", "done", "f", {}, Cost(flops=1000.0, seconds=50.0))
    grown, baseline = training_curves_of(replace(RUN, results=RUN.results | {"grow": growth}))
    assert [point.flops for point in grown.points[:4]] == [1, 2, 3, 1007]
    assert grown.points[-1].seconds == 1.5 + 14 + 50 and grown.points[-1].tokens == 1000
    assert [point.flops for point, _ in grown.growths] == [3]
    assert baseline.points == training_curves_of(RUN)[1].points


def test_the_table_gives_the_savings() -> None:
    curves = training_curves_of(RUN)
    comparison = compare(curves, baseline_of(curves))
    rows = {row[0].text: [cell.note for cell in row] for row in comparison.grid.rows}
    assert rows["large"][6] == "−32.5 %" and rows["baseline"][6] == ""  # noqa: RUF001
    never = training_curves_of(run_of([5.0] * 7, [3.0] * 10))
    assert compare(never, baseline_of(never)).grid.rows[0][6].text == "never"


def test_the_baseline_is_the_one_asked_for_the_one_named_so_or_the_first() -> None:
    curves = training_curves_of(RUN)
    assert baseline_of(curves).label == "baseline"
    assert baseline_of(curves, "large").label == "large"
    assert baseline_of(curves[:1]).label == "large"
    with pytest.raises(RefusedInput, match="one of large, baseline"):
        baseline_of(curves, "largest")


def test_pages_hold_charts_over_three_measures_with_the_growth_marked(tmp_path: Path) -> None:
    curves = training_curves_of(RUN)
    write_page(compare(curves, baseline_of(curves)), tmp_path / "page.html")
    for page in (render(RUN), (tmp_path / "page.html").read_text()):
        assert page.count("<figcaption>loss over") == 3 and "4 layers</text>" in page


def distilled(*, terms: dict[str, float] | None = None) -> RunRecord:
    """The run above, its grown model pruned and distilled; `terms` of the distillation's loss."""
    more = (
        PlannedStage("slim", "prune", {"student": "large"}, {"layers": 4}),
        PlannedStage("heal", "distill", {"student": "slim", "teacher": "large"}, {"layers": 4}),
    )
    taken = tuple(
        replace(step, kind="distill", terms=terms or {"forward_kl": step.loss}) for step in steps("heal", [0.1] * 9, 2)
    )
    names = {stage.name: stage for stage in more}
    return replace(
        RUN,
        stages=(*_STAGES, *more),
        states=RUN.states | dict.fromkeys(names, "done"),
        messages=RUN.messages | dict.fromkeys(names, ""),
        steps=RUN.steps | {"slim": (), "heal": taken},
        epochs=RUN.epochs | dict.fromkeys(names, ()),
    )


def test_a_divergence_from_a_teacher_is_no_loss_on_text() -> None:
    curves = training_curves_of(distilled())
    baseline, healed = sorted(curves, key=lambda curve: curve.label)
    assert [math.isfinite(point.loss) for point in healed.points[-10:]] == [True] + [False] * 9
    assert healed.final_loss is None and [word for _, word in healed.growths] == ["4 layers", "pruned"]
    comparison = compare(curves, baseline)
    row = next(row for row in comparison.grid.rows if row[0].text == "heal")
    assert [row[place].text for place in (4, 6, 7)] == ["–"] * 3  # noqa: RUF001
    assert "3.0000 nats per token" in comparison.sentence and "teacher alone" in comparison.sentence
    assert baseline_of([healed, baseline]) is baseline
    alone = compare([healed], healed)
    assert "no final loss" in alone.sentence and alone.grid.rows[0][4].text == "–"  # noqa: RUF001


def test_a_distillation_that_learns_from_text_too_is_measured_on_it() -> None:
    curves = training_curves_of(distilled(terms={"forward_kl": 0.1, "cross_entropy": 2.5}))
    healed = next(curve for curve in curves if curve.label == "heal")
    assert healed.final_loss == 2.5
    assert healed.reaches(2.5) is not None


def test_losses_in_different_units_are_not_compared() -> None:
    labelled = training_curves_of(
        replace(RUN, job={"name": "n", "data": {"task": "classification"}}), run_name="reviews"
    )
    with pytest.raises(RefusedInput, match=r"`runs` with 'reviews:large' is in nats per sample; .* in nats per token"):
        compare([*training_curves_of(RUN), *labelled], training_curves_of(RUN)[0])
    assert "nats per sample" in compare(labelled, labelled[0]).sentence


def test_the_caption_warns_about_different_vocabularies() -> None:
    one, other = (replace(training_curves_of(RUN)[0], vocabulary=size) for size in (300, 1024))
    assert "vocabularies differ" in compare([one, other], one).sentence
    assert "vocabularies differ" not in compare([one, one], one).sentence


def test_the_loss_of_a_stage_is_named() -> None:
    page = render(distilled())
    assert "forward KL, nats per token" in page
