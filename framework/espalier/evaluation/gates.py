"""Check measurements against the bounds of a gate."""

from __future__ import annotations

from espalier.kinds.evaluate.kind import GateConfig


def gate_faults(gate: GateConfig, **measured: float | None) -> list[str]:
    """One sentence for each measured value outside its bounds. NaN is outside of every bound.

    Args:
        measured: name of the gate -> value; None if it was not measured.
    """
    found = []
    for name, value in measured.items():
        bounds = getattr(gate, name)
        if bounds is None or value is None:
            continue
        low, high = bounds.min, bounds.max
        if not ((low is None or value >= low) and (high is None or value <= high)) or value != value:
            limits = " and ".join(
                f"{word} {x:g}" for word, x in (("at least", low), ("at most", high)) if x is not None
            )
            found.append(f"{name} is {value:.4g}, the gate asks for {limits}")
    return found
