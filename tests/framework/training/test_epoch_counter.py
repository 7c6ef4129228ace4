"""Where epochs end among steps."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.training.epoch_counter import EpochCounter


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 40))
def test_epochs_end_with_the_step_that_takes_their_last_sample(num_samples: int, sequences: int, steps: int) -> None:
    epochs = EpochCounter(num_samples, sequences)
    stream = [position // num_samples for position in range(steps * sequences)]  # each sample's epoch, from 0
    for step in range(1, steps + 1):
        taken = stream[: step * sequences]
        over = sum(taken.count(epoch) == num_samples for epoch in set(taken))
        assert epochs.ended(step) == over
    ends = [step for step in range(1, steps + 1) if epochs.ends_at(step)]
    assert [epochs.ends_until(step) for step in range(steps + 1)] == [
        sum(end <= step for end in ends) for step in range(steps + 1)
    ]
    last_of_each = {(epoch + 1) * num_samples - 1 for epoch in set(stream) if stream.count(epoch) == num_samples}
    assert ends == sorted({place // sequences + 1 for place in last_of_each})


def test_an_epoch_ends_with_the_step_that_contains_its_end() -> None:
    epochs = EpochCounter(num_samples=10, sequences=4)
    assert [epochs.ends_at(step) for step in range(1, 7)] == [False, False, True, False, True, False]
    assert epochs.ended(0) == 0


def test_a_step_of_several_epochs_ends_them_at_once() -> None:
    epochs = EpochCounter(num_samples=3, sequences=7)
    assert [epochs.ended(step) for step in (1, 2, 3)] == [2, 4, 7] and epochs.ends_at(1)
    assert [epochs.ends_until(step) for step in (0, 1, 2, 3)] == [0, 1, 2, 3]
