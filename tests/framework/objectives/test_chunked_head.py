"""The chunked head against the plain one of naive_head.py."""

from dataclasses import replace

import pytest
import torch
from naive_head import (
    ALL_TERMS,
    VOCABULARY,
    gradients,
    make_case,
    naive_sums,
    naive_values,
    name,
    parts_of,
    relative_error,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from espalier.objectives.chunked import Targets, head_objective, token_losses
from espalier.objectives.signal import Signal
from espalier.objectives.sizes import BLOCK_BYTES
from espalier.objectives.terms import Term

FORWARD_KL = Term.of("forward_kl")
SCALES = tuple(0.1 + 0.2 * position for position in range(len(ALL_TERMS)))


def objective(case, terms=(FORWARD_KL,), scales=(1.0,), chunk_tokens=5, **settings):
    return head_objective(
        case.hidden, case.weight, case.bias, targets=case.targets, terms=terms, scales=scales,
        chunk_tokens=chunk_tokens, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("terms, scales", [(ALL_TERMS, SCALES), *(((t,), (0.7,)) for t in ALL_TERMS)], ids=name)
def test_value_and_gradients_are_those_of_the_plain_head(terms, scales, bias):
    case = make_case(bias=bias)
    loss, right = objective(case, terms, scales), naive_sums(case, terms)
    total = (right * torch.tensor(scales)).sum()
    torch.testing.assert_close(loss.sums, right.detach())
    torch.testing.assert_close(loss.total, total)
    torch.testing.assert_close(gradients(loss.total, case), gradients(total, case))
    assert loss.num_tokens == int((case.targets.weights != 0).sum())


def test_gradcheck():
    case = make_case(tokens=5, vocabulary=7)

    def total(hidden, weight, bias):
        return objective(replace(case, hidden=hidden, weight=weight, bias=bias), ALL_TERMS, SCALES, 2).total

    assert torch.autograd.gradcheck(total, tuple(case.leaves()))


GPU = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="GPU")])


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, None)])
@pytest.mark.parametrize("term", ALL_TERMS, ids=name)
def test_rounding_is_no_worse_than_that_of_the_plain_head(term, dtype, tolerance, device):
    case = make_case(bias=False, tokens=97, vocabulary=499).to(dtype, device)
    right = gradients(naive_sums(exact := case.to(torch.float64), [term])[0], exact)
    plain = gradients(naive_sums(case, [term])[0], case)
    got = gradients(objective(case, [term], chunk_tokens=16).total, case)
    for mine, theirs, truth in zip(got, plain, right, strict=True):
        assert mine.dtype == dtype
        assert relative_error(mine, truth) <= max(1.05 * relative_error(theirs, truth), tolerance or 0)


def test_upstream_gradient_multiplies():
    case = make_case()
    once = gradients(objective(case).total, case)
    thrice = gradients(3.0 * objective(case).total, case)
    torch.testing.assert_close(thrice, [3.0 * gradient for gradient in once])


@pytest.mark.parametrize("chunk_tokens", [1, 2, 7, 23, 1000, None])
def test_size_of_the_chunk_changes_nothing(chunk_tokens):
    case = make_case()
    right = objective(case, ALL_TERMS, SCALES, chunk_tokens=5)
    got = objective(case, ALL_TERMS, SCALES, chunk_tokens=chunk_tokens)
    torch.testing.assert_close(got.sums, right.sums)
    torch.testing.assert_close(gradients(got.total, case), gradients(right.total, case))


def test_size_of_the_block_changes_nothing(monkeypatch):
    case = make_case()
    right = objective(case, ALL_TERMS, SCALES)
    right_values = token_losses(case.hidden, case.weight, targets=case.targets, term=FORWARD_KL)
    monkeypatch.setitem(BLOCK_BYTES, "cpu", 2 * 4 * VOCABULARY)
    got = objective(case, ALL_TERMS, SCALES)
    torch.testing.assert_close(got.sums, right.sums)
    torch.testing.assert_close(gradients(got.total, case), gradients(right.total, case))
    values = token_losses(case.hidden, case.weight, targets=case.targets, term=FORWARD_KL)
    torch.testing.assert_close(values, right_values)


def test_a_whole_is_the_sum_of_its_parts():
    case, cut = make_case(), 9
    signal = case.targets.signal
    halves = []
    for part in (slice(None, cut), slice(cut, None)):
        targets = Targets(
            case.targets.labels[part], case.targets.weights[part], replace(signal, hidden=signal.hidden[part])
        )
        halves.append(objective(replace(case, hidden=case.hidden[part], targets=targets), ALL_TERMS, SCALES))
    whole = objective(case, ALL_TERMS, SCALES)
    torch.testing.assert_close(whole.sums, halves[0].sums + halves[1].sums)
    total = halves[0].total + halves[1].total
    torch.testing.assert_close(gradients(total, case), gradients(whole.total, case))


def test_tokens_that_do_not_count_are_never_read():
    case = make_case()
    masked = case.targets.weights == 0
    signal = case.targets.signal
    poisoned = replace(signal, hidden=signal.hidden.masked_fill(masked.unsqueeze(-1), torch.nan))
    hidden = case.hidden.detach().masked_fill(masked.unsqueeze(-1), torch.nan).requires_grad_()
    bad = replace(case, hidden=hidden, targets=replace(case.targets, signal=poisoned))
    right, got = objective(case, ALL_TERMS, SCALES), objective(bad, ALL_TERMS, SCALES)
    torch.testing.assert_close(got.total, right.total)
    got_gradients = gradients(got.total, bad)
    torch.testing.assert_close(got_gradients, gradients(right.total, case))
    assert (got_gradients[0][masked] == 0).all()


def test_no_counted_token_gives_zero_loss_and_zero_gradients():
    case = make_case()
    empty = replace(case, targets=replace(case.targets, weights=torch.zeros_like(case.targets.weights)))
    loss = objective(empty, ALL_TERMS, SCALES)
    assert loss.num_tokens == 0 and loss.total == 0
    assert all((gradient == 0).all() for gradient in gradients(loss.total, empty))


def test_cross_entropy_needs_no_teacher():
    case = make_case()
    alone = replace(case, targets=replace(case.targets, signal=None))
    terms = (Term.of("cross_entropy"),)
    torch.testing.assert_close(objective(alone, terms).sums, objective(case, terms).sums)
    with pytest.raises(AssertionError, match="forward_kl needs a teacher"):
        objective(alone)


def test_vocabularies_that_differ_are_named():
    case = make_case()
    signal = Signal(case.targets.signal.hidden, case.targets.signal.head_weight[:-1])
    with pytest.raises(AssertionError, match="one vocabulary; their heads have 29 and 28 rows"):
        objective(replace(case, targets=replace(case.targets, signal=signal)))


def test_teacher_receives_no_gradient():
    case = make_case()
    signal = Signal(*(x.detach().requires_grad_() for x in parts_of(case.targets.signal)))
    case = replace(case, targets=replace(case.targets, signal=signal))
    objective(case).total.backward()
    assert all(x.grad is None for x in parts_of(signal))


def test_token_losses_are_unweighted_values_of_counted_tokens():
    case = make_case()
    for term in ALL_TERMS:
        got = token_losses(case.hidden, case.weight, case.bias, targets=case.targets, term=term, chunk_tokens=4)
        right = naive_values(case, term).detach().masked_fill(case.targets.weights == 0, 0.0)
        assert not got.requires_grad
        torch.testing.assert_close(got, right)


def test_autocast_computes_in_its_dtype():
    case = make_case(dtype=torch.float32, bias=False, tokens=97, vocabulary=499)
    low = case.to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = objective(case, ALL_TERMS, SCALES, 16)
    got_gradients = gradients(got.total, case)
    right = objective(low, ALL_TERMS, SCALES, 16)
    torch.testing.assert_close(got.sums, right.sums)
    assert [gradient.dtype for gradient in got_gradients] == [torch.float32] * 2
    for mine, theirs in zip(got_gradients, gradients(right.total, low), strict=True):
        assert relative_error(mine, theirs) < 4e-3  # one rounding to bfloat16 apart


@pytest.mark.parametrize("reentrant", [False, True])
def test_body_may_be_checkpointed(reentrant):
    case = make_case()
    body = torch.nn.Linear(7, 7, dtype=torch.float64)

    def gradient(run):
        loss = objective(replace(case, hidden=run(case.hidden)), ALL_TERMS, SCALES)
        body.zero_grad()
        loss.total.backward()
        return body.weight.grad.clone()

    plain = gradient(body)
    torch.testing.assert_close(gradient(lambda x: checkpoint(body, x, use_reentrant=reentrant)), plain)


def test_backward_touches_no_head():
    case = make_case()
    loss, right = objective(case), gradients(objective(case).total, case)
    signal = case.targets.signal
    for head in (case.weight, case.bias, signal.head_weight, signal.head_bias):
        head.data = torch.full_like(head, torch.nan)  # level parameters empties it; that would be as wrong
    torch.testing.assert_close(gradients(loss.total, case), right)


class Shapes(TorchDispatchMode):
    """Notes the shape of every tensor that an operation makes; no views, nothing written in place."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        given = {place(tensor) for tensor in tensors((args, kwargs))}
        self.seen += [tuple(tensor.shape) for tensor in tensors(out) if place(tensor) not in given]
        return out


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def place(tensor):
    return tensor.untyped_storage().data_ptr()


@pytest.mark.parametrize("terms, scales", [((FORWARD_KL,), (1.0,)), (ALL_TERMS, SCALES)], ids=["one", "all"])
def test_logits_of_all_tokens_never_exist(terms, scales):
    case = make_case(tokens=101, vocabulary=97)
    with Shapes() as shapes:
        objective(case, terms, scales, chunk_tokens=5).total.backward()
    assert max(len(shape) for shape in shapes.seen) == 2
    assert max(shape[0] for shape in shapes.seen if len(shape) == 2 and shape[1] == 97) == 5


def needless(case, **frozen):
    """Shapes seen in forward and backward when some leaves are frozen."""
    with Shapes() as shapes:
        loss = objective(replace(case, **{name: getattr(case, name).detach() for name in frozen}))
        if loss.total.requires_grad:
            loss.total.backward()
    return shapes.seen


def test_frozen_head_costs_no_gradient_of_its_own():
    case = make_case()
    seen = needless(case, weight=True, bias=True)
    assert (VOCABULARY, 7) not in seen
    assert case.hidden.grad is not None and case.weight.grad is None


def test_frozen_body_costs_no_gradient_of_hidden():
    case = make_case()
    seen = needless(case, hidden=True)
    assert (23, 7) not in seen and case.hidden.grad is None
    torch.testing.assert_close([case.weight.grad, case.bias.grad], gradients(objective(case).total, case)[1:])


def test_without_gradients_nothing_is_kept():
    case = make_case()
    with torch.no_grad(), Shapes() as shapes:
        loss = objective(case, ALL_TERMS, SCALES)
    assert not loss.total.requires_grad
    assert (VOCABULARY, 7) not in shapes.seen and (23, 7) not in shapes.seen
    torch.testing.assert_close(loss.sums, objective(case, ALL_TERMS, SCALES).sums)
