"""How long a text a model knows: the table of learned positions, or what rotary ones were made for."""

from __future__ import annotations

from espalier.models.families import family_of, shape_of
from espalier.models.shape import ConfigDict


def known_positions(config: ConfigDict) -> int:
    """Tokens of the longest text that the model was made for.

    Beyond it a table of positions ends. Rotary positions go on: stock code allows it without a warning, and the model
    has never seen them.
    """
    table = shape_of(config).positions
    if table:
        return table
    trained = _size(config.get("max_position_embeddings")) or family_of(config).reading.default_positions
    scaling = config.get("rope_parameters") or config.get("rope_scaling")
    if not isinstance(scaling, dict) or (scaling.get("rope_type") or scaling.get("type") or "default") == "default":
        return trained
    factor = scaling.get("factor")
    before = _size(scaling.get("original_max_position_embeddings")) or trained
    return max(trained, int(before * factor) if isinstance(factor, int | float) and 1 <= factor < 10**6 else 0)


def _size(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
