"""Create the command's consoles and print to them; all text from outside is made safe for the terminal here.

Names, paths, labels, prompts and messages of errors are data. They are printed without markup, so that `[/red]` in a
path is that and nothing else, and without control characters, so that none of them steers the terminal.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.measure import Measurement
from rich.style import StyleType

from espalier.tracking.number_format import plain_lines, plain_text

_WIDTH = 140  # of a pipe or a log, which has none of its own


def open_terminal(*, stderr: bool = False) -> Console:
    """Where results are shown, or errors. Every console of the command is made here."""
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")  # an encoding that lacks a letter costs that letter, not the exit code
    console = Console(stderr=stderr, markup=False, emoji=False)
    if not console.is_terminal and not stderr:
        console = Console(width=_WIDTH, markup=False, emoji=False)
    console.push_render_hook(_PlainHook())
    return console


def say(console: Console, text: str, *, style: StyleType | None = None) -> None:
    """One sentence on one line, whatever line breaks it holds; a terminal may fold it."""
    console.print(plain_text(text), style=style, markup=False, highlight=False, soft_wrap=True)


def print_path(path: Path) -> None:
    """The path and nothing else: for a person without control characters, for a script to the byte."""
    if sys.stdout.isatty():
        say(open_terminal(), str(path))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(path) + b"\n")
    sys.stdout.buffer.flush()


class _PlainHook(RenderHook):
    """Lets nothing but rich's own codes through to the terminal."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Plain(one) for one in renderables]


class _Plain:
    def __init__(self, inside: ConsoleRenderable) -> None:
        self._inside = inside

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._inside, options):
            yield segment if segment.control else segment._replace(text=plain_lines(segment.text))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self._inside)
