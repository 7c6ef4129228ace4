"""Escape text from outside for cells of a CSV file, so that no spreadsheet runs it as a formula."""

from __future__ import annotations

import re
import unicodedata

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001  what spreadsheets take for one
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_BIDI_CONTROL = re.compile("[\u202a-\u202e\u2066-\u2069]")  # change the direction in which text is read


def csv_cell(text: str) -> str:
    """Escape `text` for a cell: no spreadsheet evaluates it and no terminal obeys it; a plain number stays a number.

    A formula gets an apostrophe before it. Control characters (except line breaks and tabs) and lone surrogates are
    written out, as `\\x1b`.
    """
    text = text if text.isprintable() else "".join(map(_written_out, text))
    return f"'{text}" if _begins_formula(text) else text


def cell_text(cell: str) -> str:
    """Undo the apostrophe that `csv_cell` adds."""
    return cell[1:] if cell.startswith("'") and _begins_formula(cell[1:]) else cell


def _begins_formula(text: str) -> bool:
    """Whether text is a formula, also after leading apostrophes or spaces, so that escaping can be undone exactly."""
    return text.lstrip("' ").startswith(_FORMULA) and not _NUMBER.fullmatch(text)


def _written_out(letter: str) -> str:
    is_control = unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t"
    return repr(letter)[1:-1] if is_control or _BIDI_CONTROL.match(letter) else letter
