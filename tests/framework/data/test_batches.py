import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from espalier.config.training import BatchConfig
from espalier.data.batch import Batch
from espalier.data.batches import in_order, make_batch, spread, window
from espalier.data.packing import NO_LABEL, DocumentSequences, PackedSequences, Row
from espalier.data.token_files import Tokens

LENGTHS = [7, 2, 13, 3, 5, 11, 17, 2, 19, 23, 31]


def tokens_of(lengths: list[int]) -> Tokens:
    return Tokens(np.arange(1, sum(lengths) + 1, dtype=np.uint16), np.cumsum([0, *lengths]))


SEQUENCES = DocumentSequences(tokens_of(LENGTHS), 19)
PACKED = PackedSequences(tokens_of(LENGTHS), 5, keep_tail=True)


def step_samples(step: int, *, num_ranks: int, microbatch: int) -> list[int]:
    """Sample ids of the whole step, in the order of its microbatches."""
    batch = BatchConfig(sequences=12, microbatch_sequences=microbatch)
    ranks = [window(SEQUENCES, step, seed=5, batch=batch, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    assert {len(batches) for batches in ranks} == {12 // microbatch // num_ranks}
    microbatches = [batch for together in zip(*ranks, strict=True) for batch in together]
    assert {len(batch.input_ids) for batch in microbatches} == {microbatch}
    return torch.cat([batch.sample_ids for batch in microbatches]).tolist()


@pytest.mark.parametrize(("num_ranks", "microbatch"), [(1, 3), (2, 1), (2, 3), (4, 1), (4, 3), (1, 12)])
def test_a_step_has_the_same_samples_for_any_number_of_ranks(num_ranks: int, microbatch: int) -> None:
    for step in (0, 1, 97):
        dealt = step_samples(step, num_ranks=num_ranks, microbatch=microbatch)
        assert dealt == step_samples(step, num_ranks=1, microbatch=1)


def test_steps_go_through_epochs() -> None:
    stream = [sample for step in range(11) for sample in step_samples(step, num_ranks=1, microbatch=4)]
    for start in range(0, len(stream), len(SEQUENCES)):
        assert sorted(stream[start : start + len(SEQUENCES)]) == list(range(len(SEQUENCES)))


@given(st.integers(1, 13), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_every_sequence_is_in_one_batch(num: int, num_ranks: int, microbatch: int, spreading: bool) -> None:
    deal = spread if spreading else in_order
    ranks = [
        list(deal(SEQUENCES, num, rank=rank, num_ranks=num_ranks, microbatch_sequences=microbatch))
        for rank in range(num_ranks)
    ]
    assert len({len(batches) for batches in ranks}) == 1, "a forward pass may be collective"
    dealt = [batch for together in zip(*ranks, strict=True) for batch in together]
    ids = torch.cat([batch.sample_ids for batch in dealt])
    count = min(num, len(SEQUENCES))
    expected = [i * len(SEQUENCES) // count for i in range(count)] if spreading else list(range(count))
    assert ids[ids >= 0].tolist() == expected
    for batch in dealt:
        blank = batch.sample_ids[0] < 0
        assert bool(blank) == (batch.num_counted_tokens() == 0) == (batch.sample_weights.sum() == 0)


def test_all_of_a_split_is_in_order() -> None:
    (batch,) = in_order(SEQUENCES, None, rank=0, num_ranks=1, microbatch_sequences=100)
    assert batch.sample_ids.tolist() == list(range(len(SEQUENCES)))


@pytest.mark.parametrize("sequences", [SEQUENCES, PACKED])
def test_rows_are_padded_on_the_right(sequences: DocumentSequences | PackedSequences) -> None:
    indices = np.array([len(sequences) - 1, 2, 0])
    batch = make_batch(sequences, indices)
    assert batch.documents is not None
    assert batch.sample_ids.tolist() == indices.tolist() and batch.sample_weights.tolist() == [1.0] * 3
    paddings = {"input_ids": 0, "labels": NO_LABEL, "positions": 0, "documents": -1}
    for number, index in enumerate(indices):
        row = sequences.row(int(index))
        for name, padding in paddings.items():
            values = getattr(batch, name)[number].tolist()
            length = len(row.input_ids)
            assert values[:length] == getattr(row, name).tolist()
            assert values[length:] == [padding] * (batch.input_ids.shape[1] - length)


def test_documents_are_left_out_only_for_plain_causal_attention() -> None:
    def documents(sequences: DocumentSequences | PackedSequences, *indices: int) -> torch.Tensor | None:
        return make_batch(sequences, np.array(indices)).documents

    assert documents(SEQUENCES, 8) is None  # one document
    assert documents(SEQUENCES, 8, 9) is None  # both cut at the same length
    assert documents(SEQUENCES, 8, 7) is not None  # one is shorter
    assert documents(PACKED, len(PACKED) - 2) is None  # inside the last, long document
    assert documents(PACKED, 1) is not None  # documents meet


class Pictured:
    """Rows of different lengths with columns of every kind: of tokens, also of several values each, and of samples."""

    def __len__(self) -> int:
        return 2

    def row(self, index: int) -> Row:
        length = (3, 5)[index]
        columns = {"token_type_ids": np.full(length, 1), "boxes": np.full((length, 7), 2.5, dtype=np.float32)}
        picture = {"pixel_values": np.full((2, 3), index, dtype=np.float32), "margin": np.array(index + 1.0)}
        ids = np.arange(length)
        return Row(ids, ids, ids, ids * 0, token_columns=columns, sample_columns=picture)


def test_columns_of_tokens_are_padded_and_those_of_samples_stacked() -> None:
    columns = make_batch(Pictured(), np.array([1, 0])).columns
    assert columns["token_type_ids"].tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert columns["boxes"].shape == (2, 5, 7) and columns["boxes"].dtype == torch.float32
    assert columns["boxes"].sum(2).tolist() == [[17.5] * 5, [17.5, 17.5, 17.5, 0, 0]]
    assert columns["pixel_values"].shape == (2, 2, 3) and columns["pixel_values"][:, 1, 2].tolist() == [1, 0]
    assert columns["margin"].tolist() == [2, 1]


def test_columns_go_to_the_device_with_the_rest() -> None:
    moved = make_batch(Pictured(), np.array([0])).to(torch.device("meta"))
    assert {tensor.device.type for tensor in (moved.input_ids, *moved.columns.values())} == {"meta"}


def test_a_blank_batch_has_the_same_columns_and_nothing_in_them() -> None:
    whole, blank = (
        next(in_order(Pictured(), 1, rank=rank, num_ranks=2, microbatch_sequences=1)).to(torch.device("cpu"))
        for rank in (0, 1)
    )
    assert blank.sample_ids.tolist() == [-1] and blank.columns.keys() == whole.columns.keys()
    for name, tensor in blank.columns.items():
        inside = 2 if name in ("token_type_ids", "boxes") else 1
        assert not tensor.any() and tensor.dtype == whole.columns[name].dtype
        assert tensor.shape[inside:] == whole.columns[name].shape[inside:]
    assert blank.columns["boxes"].shape[:2] == blank.input_ids.shape


def test_types_are_those_of_the_contract() -> None:
    blank = list(in_order(SEQUENCES, 1, rank=1, num_ranks=2, microbatch_sequences=1))
    for batch in (make_batch(PACKED, np.array([0, 1, 2])), *blank):
        assert isinstance(batch, Batch) and batch.documents is not None
        shape = batch.input_ids.shape
        for values in (batch.input_ids, batch.labels, batch.positions, batch.documents):
            assert values.dtype == torch.int64 and values.shape == shape
        assert batch.sample_ids.dtype == torch.int64 and batch.sample_ids.shape == shape[:1]
        assert batch.sample_weights.dtype == torch.float32 and batch.sample_weights.shape == shape[:1]
