"""CSV cells are no formulas, hold no control characters, and can be read back."""

from __future__ import annotations

import pytest

from espalier.tracking.csv_cells import cell_text, csv_cell

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "  =1+1", "＝1+1", "＠a"]  # noqa: RUF001


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text(text: str) -> None:
    assert csv_cell(text) == f"'{text}" and cell_text(csv_cell(text)) == text


@pytest.mark.parametrize(
    "text", ["'=1", "''@a", "'s Nachts", "it's", "a=b", "x-1", "", "'", "two\nlines\tof it", "ñ e"]
)
def test_other_text_comes_back_as_it_was(text: str) -> None:
    assert cell_text(csv_cell(text)) == text


@pytest.mark.parametrize("number", ["-0.5", "+3", "1e-05", "-1e+20"])
def test_a_number_stays_one(number: str) -> None:
    assert csv_cell(number) == number


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\rb", r"a\rb"),
        ("\r=1", r"\r=1"),
        ("a\x9bb", r"a\x9bb"),
        ("safe\u202egnp.exe", r"safe\u202egnp.exe"),
        ("\ud800", r"\ud800"),
        ("\x00", r"\x00"),
    ],
)
def test_control_characters_are_written_out(text: str, cell: str) -> None:
    assert csv_cell(text) == cell
    assert csv_cell(text).encode()
