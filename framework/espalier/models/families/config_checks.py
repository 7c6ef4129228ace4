"""Check a config.json for values that stock code fails on minutes later, or takes for something else."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault, RefusedInput
from espalier.models.families import config_rules as rules
from espalier.models.families.config_rules import LARGEST, ConfigRule, is_number, is_whole
from espalier.models.families.reading import family_of, foreign_faults
from espalier.models.shape import ConfigDict

_MOST_LAYERS = 10_000


def _are_numbered(names: dict[object, object]) -> bool:
    if not all(str(number).isascii() and str(number).isdigit() for number in names):
        return False
    return sorted(int(str(number)) for number in names) == list(range(len(names)))


_RULES: dict[str, ConfigRule] = {
    "hidden_act": rules.ACTIVATION,
    "rms_norm_eps": rules.SMALL,
    "attention_dropout": rules.SHARE,
    **dict.fromkeys(("attention_bias", "tie_word_embeddings"), rules.SWITCH),
    **dict.fromkeys(("head_dim", "max_position_embeddings", "num_key_value_heads", "num_labels"), rules.SIZE),
    "initializer_range": ConfigRule("a number of at least 0", lambda value: is_number(value) and value >= 0),
    "rope_theta": ConfigRule("a number above 0", lambda value: is_number(value) and value > 0),
    "is_causal": ConfigRule("true: nothing here trains a decoder that looks ahead", lambda value: value is True),
    "is_encoder_decoder": ConfigRule("false", lambda value: value is False),
    "pruned_heads": ConfigRule("none: prune the weights themselves, and save them", lambda value: value == {}),
    "architectures": ConfigRule(
        "a list of class names",
        lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    ),
    "id2label": ConfigRule(
        "an object of class numbers, from 0 up, and their names",
        lambda value: isinstance(value, dict) and _are_numbered(value),
    ),
}
"""Of keys that more than one family reads."""


def require_loadable(config: ConfigDict) -> None:
    """Check every key that stock code computes with.

    Raises:
        RefusedInput: an unknown family; keys that are of another kind than stock code takes them for, all at once.
    """
    family = family_of(config)
    reading = family.reading
    faults = foreign_faults(config)
    faults += [
        Fault(f"config.json: {key}", config[key], rule.allowed)
        for key, rule in {**_RULES, **reading.rules}.items()
        if config.get(key) is not None and not rule.holds(config[key])
    ]
    for key in (*reading.sizes.values(), "vocab_size"):
        most = _MOST_LAYERS if key == reading.sizes["layers"] else LARGEST
        if isinstance(config.get(key), int) and config[key] > most:
            faults.append(Fault(f"config.json: {key}", config[key], f"at most {most}"))
    faults = faults or [*_label_faults(config), *_token_faults(config), *reading.faults(config)]
    if faults:
        raise RefusedInput(faults)


def _label_faults(config: ConfigDict) -> Iterator[Fault]:
    names, number = config.get("id2label"), config.get("num_labels")
    if names and number is not None and number != len(names):
        yield Fault("config.json: num_labels", number, f"{len(names)}, as its id2label has that many; or leave it out")


def _token_faults(config: ConfigDict) -> Iterator[Fault]:
    pad, rows = config.get("pad_token_id"), config.get("vocab_size")
    if pad is not None and is_whole(rows, 1) and not (is_whole(pad, -rows) and pad < rows):
        yield Fault("config.json: pad_token_id", pad, f"null, or the id of a token below its vocab_size of {rows}")
