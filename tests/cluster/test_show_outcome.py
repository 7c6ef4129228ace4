from io import StringIO

import pytest
from rich.console import Console

from espalier.stages.result import StageResult
from espalier_cluster.show import show_outcome

LABELLED = {
    "heal": {"accuracy": 0.8, "f1": 0.625, "f1_macro": 0.7, "matthews": 0.45, "loss": 0.6, "parameters": 31860},
    "vanilla": {"accuracy": 0.75, "f1": 0.5, "f1_macro": 0.6, "matthews": 0.4, "loss": 0.8, "parameters": 31860},
}
TEXT = {
    name: {
        "parameters": 134_515_008,
        "perplexity": perplexity,
        "tokens": 65536,
        "flops_per_token": 2.7e8,
        "tokens_per_second": 3100.5,
    }
    for name, perplexity in (("healed", 29.0), ("parent", 24.125))
}


def shown(metrics: dict, width: int = 200) -> list[list[str]]:
    console = Console(file=StringIO(), width=width)
    show_outcome(console, [StageResult("scores", "evaluate", "k", "done", None, metrics)])
    lines = [line for line in console.file.getvalue().splitlines() if line.strip(" ─")]
    assert all(len(line.rstrip()) <= width for line in lines)
    return [line.split("  ") for line in lines]


def words(metrics: dict, width: int = 200) -> list[list[str]]:
    return [[part.strip() for part in row if part.strip()] for row in shown(metrics, width)]


def test_models_on_labelled_data_are_shown_with_the_watched_metric_first():
    assert words({"model": "heal", "watched": "f1", "models": LABELLED}) == [
        ["model", "F1", "accuracy", "macro F1", "Matthews", "loss", "parameters"],
        ["vanilla", "50.0 %", "75.0 %", "60.0 %", "0.400", "0.8", "31,860"],
        ["heal", "62.5 %", "80.0 %", "70.0 %", "0.450", "0.6", "31,860"],
    ]


@pytest.mark.parametrize(("width", "num_metrics"), [(34, 1), (46, 2), (80, 5)])
def test_a_narrow_terminal_shows_fewer_metrics_and_cuts_none(width, num_metrics):
    head, first, _ = words({"model": "heal", "watched": "accuracy", "models": LABELLED}, width)
    assert head == ["model", *["accuracy", "F1", "macro F1", "Matthews", "loss"][:num_metrics], "parameters"]
    assert first[-1] == "31,860"


def test_speed_is_shown_where_it_was_measured():
    timed = {name: model | {"tokens_per_second": 1234.5} for name, model in LABELLED.items()}
    assert [row[-1] for row in words({"model": "heal", "watched": "f1", "models": timed})] == [
        "tokens/s",
        "1,234",
        "1,234",
    ]


def test_models_on_text_are_shown_with_the_gap_that_healing_closed():
    assert words({"model": "healed", "models": TEXT, "gap_closed": 0.769}) == [
        ["model", "parameters", "perplexity", "tokens", "FLOPs/token", "tokens/s"],
        ["parent", "134,515,008", "24.125", "65,536", "270.0 M", "3,100"],
        ["healed", "134,515,008", "29.000", "65,536", "270.0 M", "3,100"],
        ["healing closed 77 % of the gap that pruning opened (log-perplexity)"],
    ]


def test_stages_without_an_evaluation_are_left_out():
    assert shown({"steps": 7}) == []
