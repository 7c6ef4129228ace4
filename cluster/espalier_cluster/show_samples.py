"""Print the most suspect labels of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from espalier.tracking.epochs import EPOCHS, final_epochs, list_path
from espalier.tracking.number_format import plain_text
from espalier.tracking.sample_reader import read_list, trust_note
from espalier_cluster.terminal import say

if TYPE_CHECKING:  # it loads torch, which a run's end does not need here
    from espalier.audit.judged_labels import JudgedLabels

_SHOWN = 10
_FEW_CLASSES = 16
_LONGEST_TEXT = 240


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


def show_judged(console: Console, judged: JudgedLabels, samples: Sequence[int]) -> None:
    """Print suspects, each with what its models answer and why; of many classes class by class, most doubted first."""
    suspicion, doubted = judged.suspicion, judged.suspicion.doubted
    of_all = f"{int(doubted.sum())} of {len(doubted)} labels are doubted ({doubted.mean():.1%})"
    say(console, f"stage {judged.stage}: {of_all}; the {len(samples)} of least confidence:", style="bold")
    if not suspicion.has_classes or len(judged.labelled.names) <= _FEW_CLASSES:
        for sample in samples:
            _show_judged(console, judged, sample)
        return
    by_class: dict[int, list[int]] = {}
    for sample in samples:
        by_class.setdefault(int(suspicion.targets[sample]), []).append(sample)
    for target in sorted(by_class, key=lambda one: -suspicion.share_of_class[one]):
        size = int((suspicion.targets == target).sum())
        share = f"{suspicion.share_of_class[target]:.0%} of {size} doubted"
        say(console, f"{judged.labelled.names[target]}: {share}", style="bold")
        for sample in by_class[target]:
            _show_judged(console, judged, sample)


def _show_judged(console: Console, judged: JudgedLabels, sample: int) -> None:
    train, suspicion = judged.labelled.train, judged.suspicion
    student = f", student `{judged.student[sample]}`" if judged.student[sample] is not None else ""
    doubt = f"doubt {judged.doubt[sample]:.2f}"
    say(console, f"  {train.names[sample]}  given `{suspicion.given(sample)}`{student}, {doubt}", style="cyan")
    text = " | ".join([train.texts[sample], *([train.pairs[sample]] if train.pairs else [])])
    shown = text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + " …"
    console.print(Padding(Text(plain_text(shown)), (0, 0, 0, 4), expand=False))
    say(console, f"    {suspicion.why(sample)}", style="dim")
