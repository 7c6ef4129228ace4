"""The registry of losses, and the union of their settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import BeforeValidator, Field, SerializationInfo, SerializerFunctionWrapHandler, WrapSerializer

from espalier.config.faults import Fault, RefusedInput
from espalier.config.loss import Loss, LossSettings
from espalier.config.plugins import Registry

_LOSSES = "espalier.objectives.losses"
LOSSES: Registry[Loss[Any]] = Registry(
    "espalier.losses",
    Loss,
    {
        "cross_entropy": f"{_LOSSES}.cross_entropy:CROSS_ENTROPY",
        "forward_kl": f"{_LOSSES}.forward_kl:FORWARD_KL",
        "reverse_kl": f"{_LOSSES}.reverse_kl:REVERSE_KL",
        "jsd": f"{_LOSSES}.jsd:JSD",
        "skewed_forward_kl": f"{_LOSSES}.skewed_kl:SKEWED_FORWARD_KL",
        "skewed_reverse_kl": f"{_LOSSES}.skewed_kl:SKEWED_REVERSE_KL",
        "squared_error": f"{_LOSSES}.squared:SQUARED_ERROR",
        "squared_distance": f"{_LOSSES}.squared:SQUARED_DISTANCE",
        "hidden_mse": f"{_LOSSES}.hidden_states:HIDDEN_MSE",
        "hidden_cosine": f"{_LOSSES}.hidden_states:HIDDEN_COSINE",
    },
)

_ONCE_COMMON = {"temperature": 1.0, "beta": 0.5, "skew": 0.1}
"""Settings that earlier versions had for all of these losses, with their defaults. They are part of keys of stages and
of the `job.json` of earlier runs, so they are still written, and ignored when read."""
_HAD_ALL = (
    *("cross_entropy", "forward_kl", "reverse_kl", "jsd", "skewed_forward_kl", "skewed_reverse_kl"),
    *("squared_error", "squared_distance"),
)


def loss_config(function: str, **settings: Any) -> LossSettings:
    """Settings of a loss, validated as in a job file.

    Raises:
        KeyError: no loss of this name is installed.
        ValidationError: settings that it does not have, or values that it does not take.
    """
    return LOSSES[function].settings(function=function, **settings)


def losses_that_compare(*what: str) -> list[str]:
    """Names of the losses that compare one of these: see `Loss.compares`."""
    return [loss.name for loss in LOSSES.values() if loss.compares in what]


def _own_settings(value: Any) -> Any:
    """Refuse settings of other losses, and drop those that earlier versions wrote for all losses."""
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, str):
        return value
    if function in LOSSES.broken:
        allowed = f"one of {', '.join(LOSSES)}: {LOSSES.broken[function]}"
        raise RefusedInput([Fault("function", function, allowed)])
    if function not in LOSSES:
        return value
    known = LOSSES[function].settings.model_fields
    kept = {name: one for name, one in value.items() if name in known or not _is_common_default(name, one)}
    faults = [
        Fault(name, one, f"leave it out; only {_listed(owners)} {'reads' if len(owners) == 1 else 'read'} it")
        for name, one in kept.items()
        if name not in known and (owners := _owners(name))
    ]
    if faults:
        raise RefusedInput(faults)
    return kept


def _is_common_default(name: str, value: object) -> bool:
    return type(value) in (int, float) and _ONCE_COMMON.get(name) == value


def _owners(setting: object) -> list[str]:
    return [loss.name for loss in LOSSES.values() if setting in loss.settings.model_fields]


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _with_common(value: LossSettings, dump: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
    dumped = dump(value)
    if value.function not in _HAD_ALL or info.exclude_unset or info.exclude_defaults:
        return dumped
    return dumped | {name: default for name, default in _ONCE_COMMON.items() if name not in dumped}


if TYPE_CHECKING:  # the union depends on the installed packages
    LossConfig = LossSettings
else:
    LossConfig = Annotated[
        Annotated[Union[tuple(loss.settings for loss in LOSSES.values())], Field(discriminator="function")],  # noqa: UP007
        BeforeValidator(_own_settings),
        WrapSerializer(_with_common),
    ]
    """One term of the weighted sum, as its `function` has it."""
