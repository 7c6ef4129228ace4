"""The settings of losses: each has its own, and what earlier versions wrote is still read and still hashed."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import TypeAdapter, ValidationError

from espalier.config.faults import RefusedInput
from espalier.config.loss import Loss, LossSettings
from espalier.config.losses import LOSSES, LossConfig, loss_config, losses_that_compare
from framework.config.right_job import JOB

TERM: TypeAdapter[Any] = TypeAdapter(LossConfig)
COMMON = {"temperature": 1.0, "beta": 0.5, "skew": 0.1}
EARLIER = (
    *("cross_entropy", "forward_kl", "reverse_kl", "jsd", "skewed_forward_kl", "skewed_reverse_kl"),
    *("squared_error", "squared_distance"),
)


@pytest.mark.parametrize("function", EARLIER)
def test_what_earlier_versions_wrote_is_read_and_written_again(function: str) -> None:
    """Stage keys are hashes of it."""
    written = {"function": function, "weight": 0.7, **COMMON}
    term = TERM.validate_python(written)
    assert term == loss_config(function, weight=0.7)
    assert TERM.dump_python(term, mode="json") == written


def test_a_setting_that_is_not_at_its_default_is_written_as_it_is() -> None:
    term = TERM.validate_python({"function": "jsd", "temperature": 2.0, "beta": 0.3, "skew": 0.1})
    expected = {"function": "jsd", "weight": 1.0, "temperature": 2.0, "beta": 0.3, "skew": 0.1}
    assert TERM.dump_python(term, mode="json") == expected


def test_of_settings_that_were_not_given_none_is_written_where_none_is_wanted() -> None:
    assert TERM.dump_python(loss_config("forward_kl"), exclude_unset=True) == {"function": "forward_kl"}


def test_every_name_in_the_registry_is_that_of_the_declaration() -> None:
    assert [loss.name for loss in LOSSES.values()] == list(LOSSES)
    assert losses_that_compare("values") == ["squared_error", "squared_distance"]


@pytest.mark.parametrize(
    ("function", "setting", "value", "told"),
    [
        ("forward_kl", "beta", 0.3, "leave it out; only jsd reads it"),
        ("jsd", "skew", 0.3, "leave it out; only skewed_forward_kl and skewed_reverse_kl read it"),
        (
            *("cross_entropy", "temperature", 2.0),
            "only forward_kl, reverse_kl, jsd, skewed_forward_kl and skewed_reverse_kl read it",
        ),
        ("squared_error", "temperature", 2.0, "leave it out; only forward_kl"),
        ("squared_error", "temperature", True, "leave it out; only forward_kl"),
    ],
)
def test_what_only_others_read_is_refused(function: str, setting: str, value: object, told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TERM.validate_python({"function": function, setting: value})
    (error,) = refused.value.errors()
    assert isinstance(error["ctx"]["error"], RefusedInput)
    (fault,) = error["ctx"]["error"].faults
    assert (fault.path, fault.value) == (setting, value) and told in fault.allowed


FIRST = "`stages.heal.losses[0].function` (line 18)"


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        ("function: forward_kk", f"{FIRST} is 'forward_kk'; allowed: one of cross_entropy, forward_kl,"),
        ("function: forward_kk", "Did you mean `forward_kl`?"),
        ("function: [jsd]", f"{FIRST} is ['jsd']; allowed: one of cross_entropy, forward_kl,"),
        ("temperature: 2.0", f"{FIRST} is missing; allowed: one of cross_entropy, forward_kl,"),
        (
            "function: forward_kl, temprature: 2.0",
            "is no setting here; allowed: function, weight, temperature. Did you mean `temperature`?",
        ),
    ],
)
def test_an_unknown_function_or_setting_is_told_with_what_there_is(refuse: Any, new: str, sentence: str) -> None:
    assert JOB.count("function: forward_kl") == 1
    assert any(sentence in str(fault) for fault in refuse(JOB.replace("function: forward_kl", new)))


def test_an_installed_loss_that_cannot_be_used_says_why(refuse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    why = "sharp:SHARP of package sharp cannot be used: ImportError: no such library"
    monkeypatch.setitem(LOSSES.__dict__, "_found", ({loss.name: loss for loss in LOSSES.values()}, {"sharp": why}))
    (said,) = refuse(JOB.replace("function: forward_kl", "function: sharp"))
    assert said.startswith(f"{FIRST} is 'sharp'; allowed: one of cross_entropy,") and f": {why}." in said


def test_a_loss_of_hidden_states_has_to_say_of_which_layers() -> None:
    class Layerless(LossSettings):
        function: Literal["layerless"]

    with pytest.raises(TypeError, match="the settings of a loss of hidden states are HiddenStateSettings"):
        Loss(Layerless, compares="states", needs_teacher=True, values=lambda settings, student, *_: student)
