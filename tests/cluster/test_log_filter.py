"""The log filter acts inside its block only, and keeps variables that the user has set."""

import logging
import os
import warnings

import pytest

from espalier_cluster.log_filter import filter_logs


def test_environment_and_logging_are_restored_after_the_block() -> None:
    before = dict(os.environ), logging.getLogger("ray").level, warnings.filters[:]
    with filter_logs():
        assert os.environ["TRANSFORMERS_VERBOSITY"] == "error"
        assert not logging.getLogger("DeepSpeed").isEnabledFor(logging.WARNING)
    assert (dict(os.environ), logging.getLogger("ray").level, warnings.filters[:]) == before


def test_a_variable_that_is_already_set_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "debug")
    with filter_logs():
        assert os.environ["TRANSFORMERS_VERBOSITY"] == "debug"
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "debug"


def test_verbose_filters_nothing() -> None:
    before = dict(os.environ)
    with filter_logs(verbose=True):
        assert dict(os.environ) == before
