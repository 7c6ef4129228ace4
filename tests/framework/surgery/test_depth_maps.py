"""Depth maps against their published examples; samplers against the table of depth probabilities (METHODS 3.1)."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from espalier.config.faults import RefusedInput
from espalier.surgery.depth_maps import depth_map, is_copy, sharing_order
from espalier.surgery.depth_sampling import depth_probabilities, mean_depth, sample_depth

MAPS = {
    "interpolate": (0, 0, 1, 1, 2, 2),
    "identity": (0, 0, 1, 1, 2, 2),
    "stack": (0, 1, 2, 0, 1, 2),
    "copy_last": (0, 1, 2, 2, 2, 2),
    "random": (0, 1, 2, None, None, None),
}


@pytest.mark.parametrize("operator", MAPS)
def test_three_layers_become_six(operator: str) -> None:
    assert depth_map(operator, 3, 6) == MAPS[operator]
    firsts = [place for place in range(6) if MAPS[operator][place] is not None and not is_copy(MAPS[operator], place)]
    assert [MAPS[operator][place] for place in firsts] == [0, 1, 2]


def test_any_depth_to_any_deeper_one() -> None:
    assert depth_map("interpolate", 3, 5) == (0, 0, 1, 1, 2)
    assert depth_map("stack", 3, 5) == (0, 1, 2, 0, 1)
    assert sharing_order("interpolate", 3, 3) == (0, 1, 2)
    for held in range(1, 13):
        for depth in range(held, 25):
            for shared in ("interpolate", "stack"):
                assert set(sharing_order(shared, held, depth)) == set(range(held)), "every layer runs"


def test_growing_to_no_more_layers_is_refused() -> None:
    with pytest.raises(RefusedInput, match="more than the 6 layers"):
        depth_map("stack", 6, 6)


# layers held: P(least), P(12), and the mean depth by sampler, towards 12 layers
TABLE = {
    1: (0.736, 0.0017, {"lvps": 1.77, "edge": 6.33, "uniform": 6.5}),
    3: (0.637, 0.016, {"lvps": 4.23, "edge": 7.39, "uniform": 7.5}),
    6: (0.648, 0.067, {"lvps": 7.14, "edge": 8.94, "uniform": 9.0}),
    12: (1.0, 1.0, {"lvps": 12.0, "edge": 12.0, "uniform": 12.0}),
}


@pytest.mark.parametrize("held", TABLE)
def test_probabilities_are_those_of_the_published_code(held: int) -> None:
    least, most, means = TABLE[held]
    lvps = depth_probabilities("lvps", held=held, depth=12)
    assert lvps[held] == pytest.approx(least, abs=5e-4)
    assert lvps[12] == pytest.approx(most, rel=0.03)
    for sampler, mean in means.items():
        assert sum(depth_probabilities(sampler, held=held, depth=12).values()) == pytest.approx(1)
        assert mean_depth(sampler, held=held, depth=12) == pytest.approx(mean, abs=0.0051)


def test_twenty_four_layers() -> None:
    means = [mean_depth("lvps", held=held, depth=24) for held in (1, 3, 6, 12, 24)]
    assert means == pytest.approx([2.13, 5.15, 8.69, 14.46, 24], abs=0.0051)


@pytest.mark.parametrize("sampler", ["lvps", "edge", "uniform", "constant"])
@pytest.mark.parametrize("held", [1, 7, 12])
def test_draws_have_these_probabilities(sampler: str, held: int) -> None:
    draw, number = random.Random(3), 20_000
    counts = Counter(sample_depth(sampler, draw.random(), held=held, depth=12) for _ in range(number))
    expected = depth_probabilities(sampler, held=held, depth=12)
    assert set(counts) <= set(expected)
    for depth, share in expected.items():
        assert counts[depth] / number == pytest.approx(share, abs=4 * (share / number) ** 0.5 + 1e-9)
