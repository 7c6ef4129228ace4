"""The Triton kernel of the fused head: values of all terms and the gradient by the logits, each logit read once.

A row of logits is cut into slices, and each program holds one slice of both models in registers. What a slice needs of
the whole row (both log-sum-exps, means) goes through global memory: every program of a row writes its part, counts
itself in, and waits until all have. The programs of a row are neighbours, a GPU starts programs in their order, and
`fused.py` gives no row more of them than run at once, so those that are waited for are always running.

p is the teacher's distribution and q the student's; their logits over the temperature are v and u. Imports Triton, so
only `fused.py` imports this, when there is a GPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

# The places of the losses in `fused.KINDS`.
_CROSS_ENTROPY = tl.constexpr(0)
_FORWARD_KL = tl.constexpr(1)
_REVERSE_KL = tl.constexpr(2)
_JSD = tl.constexpr(3)
_SKEWED_FORWARD_KL = tl.constexpr(4)
_SKEWED_REVERSE_KL = tl.constexpr(5)


@triton.jit
def _larger(left, left_other, right, right_other):
    return tl.maximum(left, right), tl.maximum(left_other, right_other)


@triton.jit
def _added(left, left_other, right, right_other):
    return left + right, left_other + right_other


@triton.jit
def _wait_for_row(arrived, num_slices):
    """Return once all programs of this row have called this with the same counter."""
    tl.debug_barrier()  # several threads have stored parts, and one of them counts this program in
    tl.atomic_add(arrived, 1, sem="release")
    while tl.atomic_add(arrived, 0, sem="acquire") < num_slices:
        pass


@triton.jit
def _store_softmax(parts, u, v, inside, slice_number, num_slices, WITH_TEACHER: tl.constexpr):
    """The slice's largest logit and its sum of exponentials over that, of the student and of the teacher."""
    if WITH_TEACHER:
        highest, highest_v = tl.reduce((u, v), 0, _larger)
        exponentials = tl.where(inside, tl.exp(u - highest), 0.0), tl.where(inside, tl.exp(v - highest_v), 0.0)
        total, total_v = tl.reduce(exponentials, 0, _added)
        tl.store(parts + 2 * num_slices + slice_number, highest_v)
        tl.store(parts + 3 * num_slices + slice_number, total_v)
    else:
        highest = tl.max(u, 0)
        total = tl.sum(tl.where(inside, tl.exp(u - highest), 0.0), 0)
    tl.store(parts + slice_number, highest)
    tl.store(parts + num_slices + slice_number, total)


@triton.jit
def _row_sum(parts, num_slices, SLICES: tl.constexpr):
    """The row's largest logit and its sum of exponentials over that: the same bits in each of its programs."""
    numbers = tl.arange(0, SLICES)  # .cg: another program's parts, which this one's first cache may hold as they were
    largest = tl.load(parts + numbers, mask=numbers < num_slices, other=float("-inf"), cache_modifier=".cg")
    total = tl.load(parts + num_slices + numbers, mask=numbers < num_slices, other=0.0, cache_modifier=".cg")
    highest = tl.max(largest, 0)
    return highest, tl.sum(total * tl.exp(largest - highest), 0)


@triton.jit
def _mixture(gap, share):
    """With r = e^gap: log(share r + 1 - share), and r / (share r + 1 - share)."""
    small = tl.exp(-tl.abs(gap))
    bounded = tl.where(gap > 0, share + (1.0 - share) * small, share * small + (1.0 - share))
    return tl.maximum(gap, 0.0) + tl.log(bounded), tl.where(gap > 0, 1.0, small) / bounded


@triton.jit
def _value_and_slope(gap, p, q, mix, KIND: tl.constexpr):
    """Each class's part of a divergence's value, and the divergence's derivative by q, up to a constant.

    Gap is log(p / q).
    """
    if KIND == _REVERSE_KL:
        slope = -gap
        value = q * slope
    elif KIND == _JSD:
        log_m_over_q, _ = _mixture(gap, mix)
        slope = (mix - 1.0) * log_m_over_q
        value = mix * p * (gap - log_m_over_q) + q * slope
    elif KIND == _SKEWED_FORWARD_KL:
        log_m_over_q, p_over_m = _mixture(gap, mix)
        slope = (mix - 1.0) * p_over_m
        value = p * (gap - log_m_over_q)
    else:
        tl.static_assert(KIND == _SKEWED_REVERSE_KL)
        log_m_over_q, _ = _mixture(gap, 1.0 - mix)
        slope = -log_m_over_q - mix * tl.exp(-log_m_over_q)
        value = -q * log_m_over_q
    return value, slope


@triton.jit
def head_pass(
    student,
    teacher,
    labels,
    weights,
    gradient,
    values,
    parts,
    arrived,
    inverse_temperatures,
    factors,
    mixes,
    vocabulary,
    num_slices,
    num_rows,
    weight_stride,
    KINDS: tl.constexpr,
    GROUPS: tl.constexpr,
    TEACHER_GROUPS: tl.constexpr,
    HAS_TEACHER: tl.constexpr,
    NEEDS_MEAN: tl.constexpr,
    WITH_GRADIENT: tl.constexpr,
    SLICE: tl.constexpr,
    SLICES: tl.constexpr,
):
    """One slice of one row; the program's number is row * num_slices + slice.

    Args:
        student: [rows, V] float32 logits; teacher: likewise, not read where no term needs it.
        labels: [rows] int64, read by cross-entropy alone.
        weights: [rows] of each term, `weight_stride` apart; read with a gradient alone.
        gradient: [rows, V], written: the sum over terms of factor * weight * gradient of the term.
        values: [terms, rows, slices] float32, written: parts of each term's value, to be added up.
        parts: scratch, [rows, 4 * groups + terms, slices] float32.
        arrived: scratch, [2, rows] int32 zeros.
        inverse_temperatures: of each group, which is the terms of one temperature.
        factors: of each term; mixes: of each term, the share of its mixture.
        KINDS: of each term; GROUPS: of each term, the number of its group.
        TEACHER_GROUPS: of each group, whether a term of it needs the teacher; HAS_TEACHER: whether any does.
        NEEDS_MEAN: whether the gradient of a term needs a mean over the row.
        SLICE: logits of a slice; SLICES: a power of two, at least num_slices.
    """
    program = tl.program_id(0).to(tl.int64)
    row, slice_number = program // num_slices, program % num_slices
    columns = slice_number * SLICE + tl.arange(0, SLICE)
    inside = columns < vocabulary
    # Outside: no infinity, because the difference of two would be no number.
    s = tl.load(student + row * vocabulary + columns, mask=inside, other=-1e30, eviction_policy="evict_first")
    t = s
    if HAS_TEACHER:
        t = tl.load(teacher + row * vocabulary + columns, mask=inside, other=-1e30, eviction_policy="evict_first")
    own = parts + row * (4 * len(TEACHER_GROUPS) + len(KINDS)) * num_slices
    means = own + 4 * len(TEACHER_GROUPS) * num_slices
    for group in tl.static_range(len(TEACHER_GROUPS)):
        scale, at = inverse_temperatures[group], own + 4 * group * num_slices
        _store_softmax(at, s * scale, t * scale, inside, slice_number, num_slices, TEACHER_GROUPS[group])
    _wait_for_row(arrived + row, num_slices)
    total = tl.zeros([SLICE], tl.float32)
    for term in tl.static_range(len(KINDS)):
        scale, at = inverse_temperatures[GROUPS[term]], own + 4 * GROUPS[term] * num_slices
        u, v = s * scale, t * scale
        highest, exponentials = _row_sum(at, num_slices, SLICES)
        q = tl.exp(u - highest) * (1.0 / exponentials)
        factor = 0.0
        if WITH_GRADIENT:  # tau^2 is part of the value, and 1 / tau comes from the logits
            factor = factors[term] * tl.load(weights + term * weight_stride + row) / scale
        if KINDS[term] == _CROSS_ENTROPY:
            at_label = columns == tl.load(labels + row)
            log_sum = highest + tl.log(exponentials)
            value = tl.where(slice_number == 0, log_sum, 0.0) - tl.sum(tl.where(at_label, u, 0.0), 0)
            total += factor * (q - tl.where(at_label, 1.0, 0.0))
        else:
            highest_v, exponentials_v = _row_sum(at + 2 * num_slices, num_slices, SLICES)
            p = tl.exp(v - highest_v) * (1.0 / exponentials_v)
            # log(p / q); log p and log q, each large, would round it away
            gap = (v - u) - ((highest_v - highest) + (tl.log(exponentials_v) - tl.log(exponentials)))
            if KINDS[term] == _FORWARD_KL:
                value = tl.sum(tl.where(inside, p * gap, 0.0), 0)
                total += factor * (q - p)
            else:
                of_class, slope = _value_and_slope(gap, p, q, mixes[term], KINDS[term])
                slope *= q
                total += factor * slope
                of_class, slope = tl.where(inside, of_class, 0.0), tl.where(inside, slope, 0.0)
                value, mean = tl.reduce((of_class, slope), 0, _added)
                tl.store(means + term * num_slices + slice_number, mean)
        tl.store(values + (term * num_rows + row) * num_slices + slice_number, value / (scale * scale))
    if WITH_GRADIENT:
        if NEEDS_MEAN:
            _wait_for_row(arrived + num_rows + row, num_slices)
            numbers = tl.arange(0, SLICES)
            for term in tl.static_range(len(KINDS)):
                if KINDS[term] > _FORWARD_KL:
                    scale, at = inverse_temperatures[GROUPS[term]], own + 4 * GROUPS[term] * num_slices
                    of_slices = means + term * num_slices + numbers
                    mean = tl.sum(tl.load(of_slices, mask=numbers < num_slices, other=0.0, cache_modifier=".cg"), 0)
                    factor = factors[term] * tl.load(weights + term * weight_stride + row) / scale
                    highest, exponentials = _row_sum(at, num_slices, SLICES)
                    total -= (factor * mean / exponentials) * tl.exp(s * scale - highest)
        tl.store(gradient + row * vocabulary + columns, total.to(gradient.dtype.element_ty), mask=inside)
