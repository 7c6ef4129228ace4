"""A whole run ended at some of its calls to the storage; `every_call.py` tries all of them."""

from __future__ import annotations

from pathlib import Path

from faults.every_call import try_calls


def test_a_run_that_dies_at_a_call_to_the_storage_goes_on_to_the_same_end(tmp_path: Path) -> None:
    told: list[str] = []
    assert try_calls(tmp_path, num_calls=6, seed=52, tell=told.append) == []
    assert told[0].endswith("ended at 6, equal 6")
