"""Print tables: rows under headings if the terminal is wide enough, else a block of lines per row. Nothing is cut."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from espalier.tracking.number_format import plain_text

_NO_BOUND = 10_000  # columns: wider than any table
_GAP = "  "


def show_table(
    console: Console,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] | None = None,
    title: str = "",
) -> None:
    """Print rows whose first cell names them.

    Args:
        headings: of the columns; a heading may hold a line break.
        right: headings of right-aligned columns, such as numbers; by default all but the first.
        title: a line above; none when empty.
    """
    if title:
        console.print(Text(plain_text(title), style="italic"), soft_wrap=True)
    if table_fits(console, headings, rows):
        console.print(_table(headings, rows, headings[1:] if right is None else right))
        return
    for row in rows:
        for line in _block(headings, row, console.width):
            console.print(line, soft_wrap=True, highlight=False)
    console.print()


def table_fits(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the terminal is wide enough for the rows as a table."""
    no_bound = console.options.update(width=_NO_BOUND)
    return console.measure(_table(headings, rows, ()), options=no_bound).maximum <= console.width


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(Text(heading), justify="right" if heading in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(plain_text(cell)) for cell in row))
    return table


def _block(headings: Sequence[str], row: Sequence[str], width: int) -> Iterator[Text]:
    """A row as lines: its name, then its other cells with their headings, as many per line as fit."""
    name, *cells = map(plain_text, row)
    yield Text(name, style="bold")
    pairs = [f"{' '.join(one.split())}: {cell}" for one, cell in zip(headings[1:], cells, strict=True) if cell]
    line = ""
    for pair in pairs:
        if line and cell_len(_GAP + line + _GAP + pair) > width:
            yield Text(_GAP + line)
            line = ""
        line = f"{line}{_GAP}{pair}" if line else pair
    if line:
        yield Text(_GAP + line)
