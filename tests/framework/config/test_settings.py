"""Help on every setting, as the models have it."""

from __future__ import annotations

import pytest

from espalier.config.fields import settings_of
from espalier.config.formats import FORMATS
from espalier.config.losses import LOSSES
from espalier.jobs.kind import KINDS
from espalier.jobs.recipe import RECIPES
from espalier.jobs.settings import Setting, settings, summary, topics
from espalier.kinds.distill.kind import DistillStage


def by_path(topic: str) -> dict[str, Setting]:
    return {setting.path: setting for setting in settings(topics()[topic])}


def test_every_part_of_a_job_can_be_asked_about() -> None:
    assert {"job", "data", "labelled_data", "load", "distill", "evaluate", "self_correction", "jsd"} <= set(topics())
    assert len(topics()) == 1 + sum(len([*registry]) for registry in (FORMATS, KINDS, RECIPES, LOSSES))
    assert all(len(summary(part)) > 20 for part in topics().values())


@pytest.mark.parametrize("topic", topics())
def test_every_setting_is_there_with_the_values_it_takes(topic: str) -> None:
    known = by_path(topic)
    assert set(settings_of(topics()[topic])) - {"kind", "name", "function"} <= set(known)
    assert all(setting.allowed and "\n" not in setting.text for setting in known.values())


def test_defaults_and_words_are_those_of_the_models() -> None:
    known = by_path("distill")
    assert known["optimizer.lr"].default is None and "at most 10" in known["optimizer.lr"].allowed
    assert known["optimizer.clip"] == Setting(
        "optimizer.clip",
        "1.0",
        "a number at least 1e-06 and at most 1e+09",
        "The norm to which gradients are clipped.",
    )
    assert known["losses"].default == '[{"function": "forward_kl"}]' and {
        "losses[].function",
        "losses[].temperature",
    } <= set(known)
    assert known["checkpoint"].default == "{}" and known["validation"].default == "null"
    assert DistillStage.model_fields["zero_level"].default in (known["zero_level"].default or "")
    assert by_path("job")["stages"].allowed == "settings" and "stages[].name" not in by_path("job")
