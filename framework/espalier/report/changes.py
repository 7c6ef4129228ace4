"""Differences as people read them."""

from __future__ import annotations

from collections.abc import Callable


def signed_percent(ratio: float) -> str:
    """`-22 %` for 0.78, `+20.2 %` for 1.202; a minus sign, not a hyphen."""
    return signed(100 * (ratio - 1), lambda percent: f"{percent:.3g} %")


def signed(difference: float, text: Callable[[float], str]) -> str:
    """A difference with its sign; nothing has none. `text` writes its size."""
    written = text(abs(difference))
    return written if difference == 0 else f"{'+' if difference > 0 else '−'}{written}"  # noqa: RUF001
