"""Printed text has no markup and no control characters, for any encoding and width."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live
from rich.table import Table

from espalier_cluster.tables import show_table
from espalier_cluster.terminal import open_terminal, print_path, say

EVIL = "a[/red] [bold]\x1b]0;owned\x07\x1b[2Jb :smile:"
SAFE = "a[/red] [bold] ]0;owned  [2Jb :smile:"


@pytest.fixture
def console(capsys: pytest.CaptureFixture[str]) -> Console:
    return open_terminal()


def test_markup_in_text_is_printed_as_text(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    say(console, EVIL + "\nrefused: a second line", style="red")
    console.print(EVIL)
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL)
    console.print(table)
    with Live(console=console):
        console.print(EVIL)
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == f"{SAFE} refused: a second line"
    assert not set("\x1b\x07") & set(shown.replace("\x1b[?25l", "").replace("\x1b[?25h", ""))
    assert shown.count("[/red] [bold]") == 6


def test_characters_that_the_encoding_lacks_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    say(open_terminal(), "done; the report is /tmp/Übung/report.html")
    stream.flush()
    assert stream.buffer.getvalue() == b"done; the report is /tmp/?bung/report.html\n"


def test_a_path_for_a_script_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    print_path(Path("/tmp/Übung\udcff/\x1b[2J"))
    assert stream.buffer.getvalue() == "/tmp/Übung".encode() + b"\xff/\x1b[2J\n"


def test_markup_in_errors_is_printed_as_text() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "espalier_cluster.command", "report", "/tmp/[/red]\x1b[2JÜ"],
        capture_output=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin"},
    )
    assert told.returncode == 2 and b"[/red]" in told.stderr and b"Traceback" not in told.stderr
    assert b"\x1b" not in told.stderr


HEADINGS = ("stage", "kind", "a long heading\nfor a figure")
ROWS = [("a-stage-with-a-long-name", "train", "123,456"), ("b", "", "-")]


@pytest.mark.parametrize("width", [40, 55, 80])
def test_a_narrow_terminal_cuts_nothing(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    show_table(console, HEADINGS, ROWS, right=HEADINGS[2:])
    shown = console.file.getvalue()
    assert "…" not in shown and all(len(line.rstrip()) <= width for line in shown.splitlines())
    assert all(cell in shown for row in ROWS for cell in row)
    assert ("kind: train" in shown) == (width < 50)
