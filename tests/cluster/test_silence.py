"""Silence covers a block and no more, and gives way to what a person has set."""

import logging
import os
import warnings

import pytest

from espalier_cluster.silence import silenced


def test_everything_is_as_before_afterwards() -> None:
    before = dict(os.environ), logging.getLogger("ray").level, warnings.filters[:]
    with silenced():
        assert os.environ["TRANSFORMERS_VERBOSITY"] == "error"
        assert not logging.getLogger("DeepSpeed").isEnabledFor(logging.WARNING)
    assert (dict(os.environ), logging.getLogger("ray").level, warnings.filters[:]) == before


def test_a_variable_that_is_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "debug")
    with silenced():
        assert os.environ["TRANSFORMERS_VERBOSITY"] == "debug"
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "debug"


def test_verbose_silences_nothing() -> None:
    before = dict(os.environ)
    with silenced(verbose=True):
        assert dict(os.environ) == before
