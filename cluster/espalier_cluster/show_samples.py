"""Print the most suspect labels of a `correct` stage."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from espalier.tracking.epochs import EPOCHS, final_epochs, list_path
from espalier.tracking.number_format import plain_text
from espalier.tracking.sample_reader import read_list, trust_note
from espalier_cluster.terminal import say

_SHOWN = 10


def show_suspects(console: Console, run_folder: Path, stage: str) -> None:
    """Print the first rows of the stage's list of suspects; nothing when it has none."""
    rows, path = read_list(run_folder, stage, "suspects", _SHOWN), run_folder / list_path(stage, "suspects")
    if not rows:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"labels that {stage} doubts most", title_justify="left")
    for header in ("sample", "doubt", "label", "teacher", "student", "text"):
        table.add_column(header, no_wrap=header != "text", overflow="fold")
    for row in rows:
        text = " | ".join(filter(None, (row["text"], row["pair"])))
        cells = (row["name"], row["doubt"], row["label"], row["teacher"], row["student"], text)
        table.add_row(*(Text(plain_text(cell)) for cell in cells))
    console.print(table)
    epochs = final_epochs(run_folder / EPOCHS, stage)
    if note := trust_note(epochs[-1].correction) if epochs else "":
        say(console, note)
    say(console, f"all of them, with their weights over the epochs: {path}")
