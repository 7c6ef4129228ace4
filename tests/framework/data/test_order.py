import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from espalier.data.order import positions_to_indices

SEEDS = st.integers(0, 2**63 - 1)


def epoch(number: int, *, num_sequences: int, seed: int) -> np.ndarray:
    positions = np.arange(number * num_sequences, (number + 1) * num_sequences)
    return positions_to_indices(positions, num_sequences=num_sequences, seed=seed)


@given(st.integers(1, 999), SEEDS, st.integers(0, 10**6))
def test_an_epoch_has_every_sample_once(num_sequences: int, seed: int, number: int) -> None:
    order = epoch(number, num_sequences=num_sequences, seed=seed)
    assert np.array_equal(np.sort(order), np.arange(num_sequences))


@given(st.integers(1, 10**15), SEEDS, st.lists(st.integers(0, 2**60), min_size=1, max_size=7))
def test_a_position_is_computed_without_the_others(num_sequences: int, seed: int, positions: list[int]) -> None:
    """Asked for together or one by one, across epochs and for splits of any size."""
    together = positions_to_indices(np.array(positions), num_sequences=num_sequences, seed=seed)
    alone = [positions_to_indices(np.array([p]), num_sequences=num_sequences, seed=seed)[0] for p in positions]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < num_sequences)).all()


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [epoch(number, num_sequences=101, seed=seed) for number in range(5) for seed in (0, 1, 2, 2**62)]
    assert len({order.tobytes() for order in orders}) == len(orders)


def test_samples_are_uniform_over_positions() -> None:
    """Over many epochs each sample stands at each place about equally often (chi-square, 42 x 42 degrees)."""
    size, epochs = 43, 4300
    counts = np.zeros((size, size))
    orders = positions_to_indices(np.arange(size * epochs), num_sequences=size, seed=7)
    np.add.at(counts, (np.tile(np.arange(size), epochs), orders), 1)
    chi_square = ((counts - epochs / size) ** 2 / (epochs / size)).sum()
    degrees = (size - 1) ** 2
    assert abs(chi_square - degrees) < 5 * np.sqrt(2 * degrees)


def test_neighbours_are_shuffled_apart() -> None:
    order = epoch(0, num_sequences=10_007, seed=3)
    assert abs(np.corrcoef(np.arange(len(order)), order)[0, 1]) < 0.05
    assert (np.abs(np.diff(order)) == 1).sum() < 20


def test_the_order_is_that_of_earlier_versions() -> None:
    """A run goes on under a later version of this program: a changed order would repeat and skip samples."""
    order = positions_to_indices(np.arange(22), num_sequences=11, seed=17)
    assert order.tolist() == [9, 5, 0, 2, 4, 10, 3, 6, 1, 7, 8, 5, 6, 0, 9, 8, 4, 2, 10, 1, 3, 7]
