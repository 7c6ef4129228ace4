"""Read a model's shape from its Hugging Face config; refuse what the tables do not describe."""

from __future__ import annotations

from typing import TypeGuard

from espalier.config.faults import Fault, RefusedInput
from espalier.models.families.family import ConfigReading, Family, StockClass
from espalier.models.families.registry import FAMILIES
from espalier.models.shape import ConfigDict, ModelShape


def shape_of(config: ConfigDict) -> ModelShape:
    """Read the sizes of a model.

    Args:
        config: the content of its `config.json`.

    Raises:
        RefusedInput: an unknown family or head, code or quantised weights that come with the model, sizes
            that are missing, not positive or do not divide; all that can be told at once.
    """
    family = family_of(config)
    faults = [*_unsupported(config, family), *_bad_sizes(config, family)]
    if faults:
        raise RefusedInput(faults)
    reading = family.reading
    sizes = {axis: config.get(key) for axis, key in reading.sizes.items()}
    hidden, heads = _whole(sizes["hidden"]), _whole(sizes["heads"])
    shape = ModelShape(
        family=config["model_type"],
        layers=_whole(sizes["layers"]),
        hidden=hidden,
        ffn=_whole(sizes["ffn"] or 4 * hidden),
        heads=heads,
        kv_heads=_whole(_kv_heads(config, reading)),
        head_dim=_whole(reading.head_dim(config) or hidden // heads),
        vocabulary=config["vocab_size"],
        positions=_whole(reading.positions(config)),
        tied=bool(config.get("tie_word_embeddings", reading.tied_by_default)),
    )
    _check_divisions(config, family, shape)
    return shape


def family_of(config: ConfigDict) -> Family:
    """The declaration of a model's family.

    Raises:
        RefusedInput: none is installed, or the one that is cannot be used.
    """
    given = config.get("model_type")
    if not isinstance(given, str) or given not in FAMILIES:  # no hint: `qwen3_moe` is no misspelt `qwen3`
        allowed = (
            f"one of {', '.join(FAMILIES)}; others need a table in models/families, or one from an installed package"
        )
        if isinstance(given, str) and given in FAMILIES.broken:
            allowed += f" ({FAMILIES.broken[given]})"
        raise RefusedInput([Fault(_at("model_type"), given, allowed)])
    return FAMILIES[given]


def stock_class(config: ConfigDict) -> StockClass:
    """The head that a model has. `shape_of` has refused any class that the family does not describe."""
    family = family_of(config)
    named = config.get("architectures")
    return family.classes[named[0] if named else next(iter(family.classes))]


def foreign_faults(config: ConfigDict) -> list[Fault]:
    """Code and quantised weights that come with a model."""
    faults = []
    if config.get("auto_map"):
        faults.append(Fault(_at("auto_map"), config["auto_map"], "a stock model; code that comes with one is not run"))
    if config.get("quantization_config"):
        given = config["quantization_config"]
        faults.append(Fault(_at("quantization_config"), given, "full weights; take the unquantised model"))
    return faults


def _unsupported(config: ConfigDict, family: Family) -> list[Fault]:
    faults = foreign_faults(config)
    architectures = config.get("architectures")
    if architectures and architectures[0] not in family.classes:
        faults.append(Fault(_at("architectures"), architectures, f"one of {', '.join(family.classes)}"))
    faults += [Fault(_at(key), config[key], "false") for key in family.reading.forbidden if config.get(key)]
    return faults


def _bad_sizes(config: ConfigDict, family: Family) -> list[Fault]:
    reading = family.reading
    values = {key: config.get(key) for key in (*reading.sizes.values(), "vocab_size")}
    faults = [
        Fault(_at(key), value, "a positive whole number")
        for key, value in values.items()
        if not _is_size(value) and not (key in reading.optional_sizes and value is None)
    ]
    if not faults:
        positions = reading.positions(config)
        derived = {
            "num_key_value_heads": _kv_heads(config, reading),
            "head_dim": reading.head_dim(config) or 1,
            "positions": 1 if positions == 0 else positions,  # 0: no table
        }
        faults = [Fault(_at(k), v, "a positive whole number") for k, v in derived.items() if not _is_size(v)]
    return faults


def _check_divisions(config: ConfigDict, family: Family, shape: ModelShape) -> None:
    faults, sizes = [], family.reading.sizes
    if shape.heads % shape.kv_heads:
        wanted = f"a multiple of the {shape.kv_heads} KV heads"
        faults.append(Fault(_at(sizes["heads"]), shape.heads, wanted))
    if not family.reading.head_dim(config) and shape.hidden % shape.heads:
        wanted = f"a multiple of the {shape.heads} heads"
        faults.append(Fault(_at(sizes["hidden"]), shape.hidden, wanted))
    if faults:
        raise RefusedInput(faults)


def _kv_heads(config: ConfigDict, reading: ConfigReading) -> object:
    return config[reading.sizes["heads"]] if reading.kv_heads is None else reading.kv_heads(config)


def _is_size(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _whole(value: object) -> int:
    """A value that `_bad_sizes` has let through."""
    assert isinstance(value, int)
    return value


def _at(key: str) -> str:
    return f"config.json: {key}"
