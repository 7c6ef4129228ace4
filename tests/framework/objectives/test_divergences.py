import pytest
import torch
from naive_head import ALL_TERMS, make_case, naive_values, name, relative_error

from espalier.config.losses import loss_config
from espalier.objectives.gradients import logits_gradient, scaled_gradient, token_values
from espalier.objectives.terms import Term

DIVERGENCES = [term for term in ALL_TERMS if term.needs_teacher]


def logits(spread=1.0, *, tokens=5, vocabulary=31, dtype=torch.float64, seed=3):
    stream = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(tokens, vocabulary, generator=stream, dtype=torch.float64)).to(dtype)


def pair(**settings):
    labels = torch.arange(5) * 7 % 31
    return logits(**settings, seed=3), logits(**settings, seed=4), labels


def values_of(term, student, teacher, labels):
    return token_values(term, student, teacher_logits=teacher, labels=labels)


def between(function, student, teacher, **settings):
    term, labels = Term.of(function, **settings), torch.zeros(len(student), dtype=torch.int64)
    return values_of(term, student, teacher, labels)


def closed(term, student, teacher, labels):
    return logits_gradient(term, student.clone(), teacher_logits=teacher.clone(), labels=labels)


@pytest.mark.parametrize("term", ALL_TERMS, ids=name)
def test_values_are_those_of_the_definitions(term):
    case = make_case()
    signal = case.targets.signal
    student = case.hidden @ case.weight.t() + case.bias
    teacher = signal.hidden @ signal.head_weight.t() + signal.head_bias
    got = values_of(term, student, teacher, case.targets.labels.clamp(min=0))
    torch.testing.assert_close(got, naive_values(case, term), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("term", ALL_TERMS, ids=name)
def test_closed_form_is_the_derivative_of_the_value(term):
    student, teacher, labels = pair(spread=3.0)
    leaf = student.clone().requires_grad_()
    right = values_of(term, leaf, teacher, labels)
    values, gradient = closed(term, student, teacher, labels)
    torch.testing.assert_close(values, right.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.grad(right.sum(), leaf)[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("term", ALL_TERMS, ids=name)
def test_float32_is_accurate_and_finite_far_apart(term):
    student, teacher, labels = pair(spread=20.0)
    right, right_gradient = closed(term, student, teacher, labels)
    got, gradient = closed(term, student.float(), teacher.float(), labels)
    assert relative_error(got, right) < 1e-5
    assert relative_error(gradient, right_gradient) < 1e-5


@pytest.mark.parametrize("term", DIVERGENCES, ids=name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_divergence_from_itself_is_zero_with_zero_gradient(term, dtype):
    same = logits(3.0, dtype=dtype)
    values, gradient = closed(term, same, same, torch.zeros(5, dtype=torch.int64))
    tolerance = 50 * torch.finfo(dtype).eps
    assert values.abs().max() < tolerance
    assert gradient.abs().max() < tolerance


@pytest.mark.parametrize("term", DIVERGENCES, ids=name)
def test_divergences_are_positive_and_ignore_an_offset_of_the_logits(term):
    student, teacher, labels = pair(spread=2.0)
    values = values_of(term, student, teacher, labels)
    assert (values > 0).all()
    torch.testing.assert_close(values_of(term, student + 5.0, teacher - 3.0, labels), values)


@pytest.mark.parametrize("term", ALL_TERMS, ids=name)
def test_gradient_sums_to_zero_over_the_vocabulary(term):
    _, gradient = closed(term, *pair(spread=2.0))
    assert gradient.sum(-1).abs().max() < 1e-12


def test_jsd_tends_to_forward_and_to_reverse_kl():
    student, teacher, _ = pair()
    near_zero = between("jsd", student, teacher, beta=1e-6) / 1e-6
    near_one = between("jsd", student, teacher, beta=1 - 1e-6) / 1e-6
    torch.testing.assert_close(near_zero, between("forward_kl", student, teacher), rtol=1e-4, atol=0)
    torch.testing.assert_close(near_one, between("reverse_kl", student, teacher), rtol=1e-4, atol=0)


def test_jsd_swaps_its_models_with_beta():
    student, teacher, _ = pair()
    there = between("jsd", student, teacher, beta=0.3)
    torch.testing.assert_close(there, between("jsd", teacher, student, beta=0.7))


def test_skewed_divergences_tend_to_the_plain_ones():
    student, teacher, _ = pair()
    forward = between("skewed_forward_kl", student, teacher, skew=1e-9)
    reverse = between("skewed_reverse_kl", student, teacher, skew=1e-9)
    torch.testing.assert_close(forward, between("forward_kl", student, teacher), rtol=1e-6, atol=0)
    torch.testing.assert_close(reverse, between("reverse_kl", student, teacher), rtol=1e-6, atol=0)


@pytest.mark.parametrize("function", ["forward_kl", "reverse_kl"])
def test_temperature_keeps_the_size_of_the_gradient(function):
    """For centred logits the gradient tends to (s - t) / V as the temperature rises."""
    student, teacher, labels = (x - x.mean(-1, keepdim=True) if x.is_floating_point() else x for x in pair())
    for temperature in (1e3, 1e4):
        hot = loss_config(function).model_copy(update={"temperature": temperature})  # beyond what a job may ask for
        _, gradient = closed(Term(hot), student, teacher, labels)
        torch.testing.assert_close(gradient, (student - teacher) / 31, rtol=0.02, atol=1e-4)


def test_several_terms_add_with_their_scales():
    student, teacher, labels = pair(spread=2.0)
    scales = [0.3, 1.1, 0.7, 2.0, 0.4, 0.6, 0.9, 1.3]
    values, gradient = scaled_gradient(
        ALL_TERMS, scales, student.clone(), teacher_logits=teacher.clone(), labels=labels
    )
    alone = [closed(term, student, teacher, labels) for term in ALL_TERMS]
    torch.testing.assert_close(values, torch.stack([value for value, _ in alone]))
    torch.testing.assert_close(
        gradient, sum(scale / scales[0] * part for scale, (_, part) in zip(scales, alone, strict=True))
    )
