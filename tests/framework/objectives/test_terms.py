from espalier.config.losses import loss_config
from espalier.objectives.terms import Term, names_of, terms_of


def test_terms_carry_every_setting_in_order():
    losses = [
        loss_config("jsd", weight=0.7, temperature=2.0, beta=0.3),
        loss_config("skewed_reverse_kl", weight=0.2, skew=0.4),
    ]
    terms = terms_of(losses)
    assert [term.settings for term in terms] == losses
    assert [term.weight for term in terms] == [0.7, 0.2]
    assert terms == (
        Term.of("jsd", weight=0.7, temperature=2.0, beta=0.3),
        Term.of("skewed_reverse_kl", weight=0.2, skew=0.4),
    )


def test_a_term_takes_any_weight_beside_its_settings():
    term = Term.of("forward_kl", temperature=2.0).weighted(1e-9)
    assert (term.weight, term.settings.temperature) == (1e-9, 2.0)


def test_names_differ_when_a_function_is_used_twice():
    terms = (Term.of("forward_kl"), Term.of("jsd"), Term.of("forward_kl", temperature=2.0))
    assert names_of(terms) == ("forward_kl", "jsd", "forward_kl_2")
