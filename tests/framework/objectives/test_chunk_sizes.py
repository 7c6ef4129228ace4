import pytest

from espalier.objectives.sizes import MEMORY_BYTES, block_size, chunk_size, default_chunk_size


@pytest.mark.parametrize("vocabulary", [997, 32003, 151_937])
@pytest.mark.parametrize("memory_bytes", [2**23, 2**26, 2**30])
def test_chunk_fills_its_bound_and_keeps_it(memory_bytes, vocabulary):
    tokens = chunk_size(memory_bytes, vocabulary)
    assert 3 * 4 * vocabulary * tokens <= memory_bytes
    assert 3 * 4 * vocabulary * (tokens + 32) > memory_bytes


def test_chunk_is_never_empty():
    assert chunk_size(1, 50_000) == 1


def test_chunk_of_a_usual_head_has_whole_tiles():
    assert chunk_size(2**27, 32_000) % 32 == 0


@pytest.mark.parametrize("device", sorted(MEMORY_BYTES))
def test_defaults_hold_their_bound(device):
    assert default_chunk_size(device, 128_256) == chunk_size(MEMORY_BYTES[device], 128_256)
    assert 0 < block_size(device, 128_256, num_threads=1) <= default_chunk_size(device, 128_256)


def test_block_feeds_every_thread():
    assert block_size("cpu", 10**7, num_threads=3) == 3
