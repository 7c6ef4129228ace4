import math

import pytest

from espalier.tracking.number_format import (
    bytes_text,
    count_text,
    duration_text,
    flops_text,
    number_text,
    plain_lines,
    plain_text,
)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (count_text(134_515_008), "134.5 M"),
        (count_text(1_050_000_000), "1.05 B"),
        (count_text(4096), "4096"),
        (count_text(12_345), "12.3 k"),
        (count_text(3091.6), "3092"),
        (count_text(0.25), "0.25"),
        (flops_text(3.21e15), "3.21 PFLOP"),
        (flops_text(688_128), "688.1 kFLOP"),
        (flops_text(17), "17 FLOP"),
        (bytes_text(3.1 * 2**30), "3.10 GiB"),
        (bytes_text(0), "0 B"),
        (number_text(0.00012345), "0.0001234"),
        (duration_text(0.42), "0.42 s"),
        (duration_text(59.97), "60.0 s"),
        (duration_text(247.4), "4:07 min"),
        (duration_text(3 * 3600 + 245), "3:04 h"),
        (duration_text(2 * 86400 + 5 * 3600), "2 d 5 h"),
        (duration_text(math.inf), "?"),
        (count_text(math.nan), "nan"),
    ],
)
def test_numbers_are_formatted(text, right):
    assert text == right


def test_a_message_cannot_steer_the_terminal():
    assert plain_text("gone\x1b[2J\r\nback") == "gone [2J  back"


def test_colours_of_a_message_are_left_out():
    assert plain_text("\x1b[1;33m(raylet)\x1b[0m a node died\x1b[m") == "(raylet) a node died"


def test_plain_lines_keeps_line_breaks_only():
    assert plain_lines("first\n\x1b[31msecond\rthird\n") == "first\nsecond third\n"
