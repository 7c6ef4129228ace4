import pytest

from espalier.config.faults import RefusedInput
from espalier.config.training import LossConfig
from espalier.objectives.terms import Term, names_of, terms_of


def test_terms_carry_every_setting_in_order():
    losses = [
        LossConfig(function="jsd", weight=0.7, temperature=2.0, beta=0.3),
        LossConfig(function="skewed_reverse_kl", weight=0.2, skew=0.4),
    ]
    assert terms_of(losses) == (
        Term("jsd", weight=0.7, temperature=2.0, beta=0.3),
        Term("skewed_reverse_kl", weight=0.2, skew=0.4),
    )


def test_defaults_of_a_term_are_those_of_the_job_file():
    assert terms_of([LossConfig(function="forward_kl")]) == (Term("forward_kl"),)


def test_temperature_of_cross_entropy_is_refused_by_path():
    losses = [
        LossConfig(function="forward_kl", temperature=2.0),
        LossConfig(function="cross_entropy", temperature=2.0),
    ]
    with pytest.raises(RefusedInput, match=r"`losses\[1\]\.temperature` is 2\.0"):
        terms_of(losses)


def test_names_differ_when_a_function_is_used_twice():
    terms = (Term("forward_kl"), Term("jsd"), Term("forward_kl", temperature=2.0))
    assert names_of(terms) == ("forward_kl", "jsd", "forward_kl_2")
