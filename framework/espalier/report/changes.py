"""Format differences with their sign: `+20.2 %`, `−22 %`."""

from __future__ import annotations

from collections.abc import Callable


def signed_percent(ratio: float) -> str:
    """Format a ratio as a change in percent: 0.78 as `−22 %` (with a minus sign), 1.202 as `+20.2 %`."""
    return signed(100 * (ratio - 1), lambda percent: f"{percent:.3g} %")


def signed(difference: float, text: Callable[[float], str]) -> str:
    """Format a difference with its sign, zero without one; `text` formats its absolute value."""
    written = text(abs(difference))
    return written if difference == 0 else f"{'+' if difference > 0 else '−'}{written}"  # noqa: RUF001
