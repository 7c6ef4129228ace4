"""Text that comes from outside, as cells of a CSV file that a person opens in a spreadsheet or a terminal."""

from __future__ import annotations

import re
import unicodedata

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001  what spreadsheets take for one
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_TURNED = re.compile("[\u202a-\u202e\u2066-\u2069]")  # change the direction in which text is read


def csv_cell(text: str) -> str:
    """`text` as a cell that no spreadsheet calculates and no terminal obeys; a plain number stays one.

    A formula gets an apostrophe before it. Control characters, except line breaks and tabs inside the text, and halves
    of characters are written out, as `\\x1b`.
    """
    text = text if text.isprintable() else "".join(map(_written_out, text))
    return f"'{text}" if _begins_formula(text) else text


def cell_text(cell: str) -> str:
    """What stood in a cell before `csv_cell` put an apostrophe there."""
    return cell[1:] if cell.startswith("'") and _begins_formula(cell[1:]) else cell


def _begins_formula(text: str) -> bool:
    """Also with apostrophes or spaces before it, so that a text which has them itself keeps them there and back."""
    return text.lstrip("' ").startswith(_FORMULA) and not _NUMBER.fullmatch(text)


def _written_out(letter: str) -> str:
    is_control = unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t"
    return repr(letter)[1:-1] if is_control or _TURNED.match(letter) else letter
