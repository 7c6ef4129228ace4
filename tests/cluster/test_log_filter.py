"""The log filter acts inside its block only, and keeps variables that the user has set."""

import logging
import os
import warnings

import pytest

from espalier_cluster.log_filter import filter_logs, without_native_lines


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


def test_expected_lines_of_native_code_are_left_out_and_others_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), without_native_lines(b"as expected"):
        os.write(2, b"it fails as expected\nand this is new\n")
        raise ValueError
    os.write(2, b"later, as expected\n")
    assert capfd.readouterr().err == "and this is new\nlater, as expected\n"
