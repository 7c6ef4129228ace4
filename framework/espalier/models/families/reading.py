"""From a Hugging Face config to a shape, refusing what the tables do not describe."""

from __future__ import annotations

from espalier.config.faults import Fault, RefusedInput
from espalier.models.families.registry import FAMILIES, Family
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
    sizes = {axis: config.get(key) for axis, key in family.SIZES.items()}
    sizes["ffn"] = sizes["ffn"] or 4 * sizes["hidden"]
    shape = ModelShape(
        family=config["model_type"],
        **sizes,
        kv_heads=family.kv_heads(config),
        head_dim=family.head_dim(config) or sizes["hidden"] // sizes["heads"],
        vocabulary=config["vocab_size"],
        positions=family.positions(config),
        tied=bool(config.get("tie_word_embeddings", family.TIED_BY_DEFAULT)),
    )
    _check_divisions(config, family, shape)
    return shape


def family_of(config: ConfigDict) -> Family:
    """The table of a model's family.

    Raises:
        RefusedInput: there is none.
    """
    given = config.get("model_type")
    if not isinstance(given, str) or given not in FAMILIES:  # no hint: `qwen3_moe` is no misspelt `qwen3`
        allowed = f"one of {', '.join(FAMILIES)}; others need a table in models/families"
        raise RefusedInput([Fault(_at("model_type"), given, allowed)])
    return FAMILIES[given]


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
    architectures = config.get("architectures") or family.ARCHITECTURES
    if architectures[0] not in family.ARCHITECTURES:
        faults.append(Fault(_at("architectures"), architectures, f"one of {', '.join(family.ARCHITECTURES)}"))
    faults += [Fault(_at(key), config[key], "false") for key in family.FORBIDDEN if config.get(key)]
    return faults


def _bad_sizes(config: ConfigDict, family: Family) -> list[Fault]:
    optional = {"n_inner"}  # null: four times hidden
    values = {key: config.get(key) for key in (*family.SIZES.values(), "vocab_size")}
    faults = [
        Fault(_at(key), value, "a positive whole number")
        for key, value in values.items()
        if not _is_size(value) and not (key in optional and value is None)
    ]
    if not faults:
        derived = {
            "num_key_value_heads": family.kv_heads(config),
            "head_dim": family.head_dim(config) or 1,
            "positions": family.positions(config) or 1,
        }
        faults = [Fault(_at(k), v, "a positive whole number") for k, v in derived.items() if not _is_size(v)]
    return faults


def _check_divisions(config: ConfigDict, family: Family, shape: ModelShape) -> None:
    faults = []
    if shape.heads % shape.kv_heads:
        wanted = f"a multiple of the {shape.kv_heads} KV heads"
        faults.append(Fault(_at(family.SIZES["heads"]), shape.heads, wanted))
    if not family.head_dim(config) and shape.hidden % shape.heads:
        wanted = f"a multiple of the {shape.heads} heads"
        faults.append(Fault(_at(family.SIZES["hidden"]), shape.hidden, wanted))
    if faults:
        raise RefusedInput(faults)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _at(key: str) -> str:
    return f"config.json: {key}"
