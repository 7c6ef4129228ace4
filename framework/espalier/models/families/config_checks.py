"""Values of a config.json that stock code would stumble over minutes later, or read as something else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from espalier.config.faults import Fault, RefusedInput
from espalier.models.families.reading import family_of, foreign_faults
from espalier.models.shape import ConfigDict

ACTIVATIONS = (
    *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "laplace"),
    *("leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2", "relu6", "sigmoid", "silu", "swish", "tanh"),
)
"""Names that every supported transformers knows."""
ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")
LAYER_TYPES = ("full_attention", "sliding_attention")
_MOST = 2**31 - 1
_MOST_LAYERS = 10_000


@dataclass(frozen=True)
class _Rule:
    """What the value of a key must be, where it is given and not null."""

    allowed: str
    holds: Callable[[object], bool]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MOST


_SIZE = _Rule("a positive whole number", lambda value: _is_whole(value, 1))
_SMALL = _Rule("a number above 0 and below 1", lambda value: _is_number(value) and 0 < value < 1)
_SHARE = _Rule("a number from 0 to below 1", lambda value: _is_number(value) and 0 <= value < 1)
_SWITCH = _Rule("true or false", lambda value: isinstance(value, bool))
_ACTIVATION = _Rule(f"one of {', '.join(ACTIVATIONS)}", lambda value: isinstance(value, str) and value in ACTIVATIONS)
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("hidden_act", "activation_function"), _ACTIVATION),
    **dict.fromkeys(("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"), _SMALL),
    **dict.fromkeys(
        (
            "attention_dropout",
            "attention_probs_dropout_prob",
            "attn_pdrop",
            "classifier_dropout",
            "embd_pdrop",
            "hidden_dropout_prob",
            "resid_pdrop",
        ),
        _SHARE,
    ),
    **dict.fromkeys(
        (
            "attention_bias",
            "mlp_bias",
            "reorder_and_upcast_attn",
            "scale_attn_by_inverse_layer_idx",
            "scale_attn_weights",
            "tie_word_embeddings",
            "use_sliding_window",
        ),
        _SWITCH,
    ),
    **dict.fromkeys(("head_dim", "max_position_embeddings", "n_positions", "num_labels", "sliding_window"), _SIZE),
    **dict.fromkeys(("num_key_value_heads", "type_vocab_size"), _SIZE),
    "initializer_range": _Rule("a number of at least 0", lambda value: _is_number(value) and value >= 0),
    "max_window_layers": _Rule("a whole number of at least 0", lambda value: _is_whole(value, 0)),
    "rope_theta": _Rule("a number above 0", lambda value: _is_number(value) and value > 0),
    "is_causal": _Rule("true: nothing here trains a decoder that looks ahead", lambda value: value is True),
    "is_encoder_decoder": _Rule("false", lambda value: value is False),
    "position_embedding_type": _Rule("absolute", lambda value: value == "absolute"),
    "pruned_heads": _Rule("none: prune the weights themselves, and save them", lambda value: value == {}),
    "architectures": _Rule(
        "a list of class names",
        lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    ),
    "id2label": _Rule(
        "an object of class numbers, from 0 up, and their names",
        lambda value: isinstance(value, dict) and _are_numbered(value),
    ),
}


def require_sane(config: ConfigDict) -> None:
    """Look at every key that stock code computes with.

    Raises:
        RefusedInput: an unknown family; keys that are of another kind than stock code takes them for, all at once.
    """
    family = family_of(config)
    faults = foreign_faults(config)
    faults += [
        Fault(f"config.json: {key}", config[key], rule.allowed)
        for key, rule in _RULES.items()
        if config.get(key) is not None and not rule.holds(config[key])
    ]
    for key in (*family.SIZES.values(), "vocab_size"):
        most = _MOST_LAYERS if key in ("num_hidden_layers", "n_layer") else _MOST
        if isinstance(config.get(key), int) and config[key] > most:
            faults.append(Fault(f"config.json: {key}", config[key], f"at most {most}"))
    faults = faults or [*_label_faults(config), *_token_faults(config), *_rope_faults(config), *_window_faults(config)]
    if faults:
        raise RefusedInput(faults)


def _label_faults(config: ConfigDict) -> Iterator[Fault]:
    names, number = config.get("id2label"), config.get("num_labels")
    if names and number is not None and number != len(names):
        yield Fault("config.json: num_labels", number, f"{len(names)}, as its id2label has that many; or leave it out")


def _token_faults(config: ConfigDict) -> Iterator[Fault]:
    pad, rows = config.get("pad_token_id"), config.get("vocab_size")
    if pad is not None and _is_whole(rows, 1) and not (_is_whole(pad, -rows) and pad < rows):
        yield Fault("config.json: pad_token_id", pad, f"null, or the id of a token below its vocab_size of {rows}")


def _rope_faults(config: ConfigDict) -> Iterator[Fault]:
    for key in ("rope_parameters", "rope_scaling"):
        settings = config.get(key)
        if settings is None:
            continue
        if not isinstance(settings, dict):
            yield Fault(f"config.json: {key}", settings, "null, or an object with a rope_type")
            continue
        kind = settings.get("rope_type", settings.get("type", "default"))
        if kind not in ROPE_TYPES:
            yield Fault(f"config.json: {key}.rope_type", kind, f"one of {', '.join(ROPE_TYPES)}")
        for name in ("rope_theta", "factor", "low_freq_factor", "high_freq_factor"):
            value = settings.get(name)
            if value is not None and not (_is_number(value) and value > 0):
                yield Fault(f"config.json: {key}.{name}", value, "a number above 0")
        if kind not in ("default", "longrope") and settings.get("factor") is None:
            yield Fault(f"config.json: {key}.factor", None, f"a number of at least 1, as rope_type {kind} asks")
    heads, width = config.get("num_attention_heads"), config.get("head_dim")
    rotary = config["model_type"] not in ("gpt2", "bert")
    if rotary and width is None and _is_whole(heads, 1) and _is_whole(config.get("hidden_size"), 1):
        width = config["hidden_size"] // heads if config["model_type"] != "qwen3" else None
    if rotary and isinstance(width, int) and width % 2:
        yield Fault("config.json: head_dim", width, "an even number: rotary positions turn pairs")


def _window_faults(config: ConfigDict) -> Iterator[Fault]:
    """Of Qwen, whose layers may have windows; the other families read no `layer_types`."""
    types, layers = config.get("layer_types"), config.get("num_hidden_layers")
    if types is None or config["model_type"] not in ("qwen2", "qwen3"):
        return
    if not isinstance(types, list) or any(kind not in LAYER_TYPES for kind in types):
        yield Fault("config.json: layer_types", types, f"a list of {' and '.join(LAYER_TYPES)}")
    elif len(types) != layers:
        yield Fault("config.json: layer_types", types, f"one for each of the {layers} layers")
    elif "sliding_attention" in types and not _has_window(config):
        allowed = "full_attention only, or use_sliding_window and a sliding_window"
        yield Fault("config.json: layer_types", types, allowed)


def _has_window(config: ConfigDict) -> bool:
    return bool(config.get("use_sliding_window")) and config.get("sliding_window", 4096) is not None


def _are_numbered(names: dict[object, object]) -> bool:
    if not all(str(number).isascii() and str(number).isdigit() for number in names):
        return False
    return sorted(int(str(number)) for number in names) == list(range(len(names)))
