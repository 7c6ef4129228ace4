"""Format counts, FLOPs, bytes, durations and other numbers as text for the terminal and the report."""

from __future__ import annotations

import math
import re

_COUNT_STEPS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_FLOP_STEPS = (
    (1e21, "ZFLOP"),
    (1e18, "EFLOP"),
    (1e15, "PFLOP"),
    (1e12, "TFLOP"),
    (1e9, "GFLOP"),
    (1e6, "MFLOP"),
    (1e3, "kFLOP"),
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_BYTE_STEPS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def count_text(count: float) -> str:
    """Format a count: `134.5 M`, `1.05 B`, `12.3 k`; numbers below 10,000 in full."""
    if abs(count) < 10_000:
        return f"{count:.0f}" if count == int(count) or abs(count) >= 100 else f"{count:.3g}"
    return _scaled(count, _COUNT_STEPS, "")


def flops_text(flops: float) -> str:
    """Format a number of floating-point operations: `3.21 PFLOP`."""
    return _scaled(flops, _FLOP_STEPS, "FLOP")


def bytes_text(num_bytes: float) -> str:
    """Format a size in bytes: `3.1 GiB`."""
    return _scaled(num_bytes, _BYTE_STEPS, "B")


def number_text(value: float) -> str:
    """Format a measured value to four significant digits, without trailing zeros: `2.313`, `0.00012`, `1.5e+09`."""
    return f"{value:.4g}"


def perplexity_text(value: float | None, digits: int) -> str:
    """Format a perplexity: `500.27`, `1.5e+09`; `inf` for None, which stands for an overflow."""
    if value is None:
        return "inf"
    return f"{value:.{digits}f}" if value < 1e6 else number_text(value)


def duration_text(seconds: float) -> str:
    """Format a duration: `0.42 s`, `12.3 s`, `4:07 min`, `3:04 h`, `2 d 5 h`."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    if whole < 86400:
        return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def plain_text(text: str) -> str:
    """Replace control characters and line breaks by spaces, because control characters could steer a terminal.

    Colours, which other programs' messages have, are left out whole.
    """
    return "".join(letter if letter.isprintable() else " " for letter in _COLOUR.sub("", text))


def plain_lines(text: str) -> str:
    """Replace control characters by spaces, but keep line breaks."""
    return "\n".join(map(plain_text, text.split("\n")))


def _scaled(value: float, steps: tuple[tuple[float, str], ...], unit: str) -> str:
    if not math.isfinite(value):
        return str(value)
    size, name = next(((size, name) for size, name in steps if abs(value) >= size), (1, unit))
    scaled = value / size
    digits = 0 if size == 1 and scaled == int(scaled) else 1 if abs(scaled) >= 10 else 2
    return f"{scaled:.{digits}f} {name}".rstrip()
