import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from espalier.data.packing import NO_LABEL, DocumentSequences, PackedSequences
from espalier.data.token_files import Tokens

DOCUMENTS = st.lists(st.lists(st.integers(0, 70_000), min_size=1, max_size=23), min_size=1, max_size=11)


def tokens_of(documents: list[list[int]]) -> Tokens:
    ids = np.array([token for document in documents for token in document], dtype=np.uint32)
    return Tokens(ids, np.cumsum([0, *map(len, documents)]))


def naive_rows(documents: list[list[int]], length: int) -> list[list[tuple[int, int, int]]]:
    """Rows of (token, document of the corpus, token that follows in the document), cut one by one."""
    stream = [
        (token, number, (*document, NO_LABEL)[place + 1])
        for number, document in enumerate(documents)
        for place, token in enumerate(document)
    ]
    return [stream[start : start + length] for start in range(0, len(stream), length)]


@given(DOCUMENTS, st.integers(2, 13))
def test_blocks_equal_a_naive_cut(documents: list[list[int]], length: int) -> None:
    sequences = PackedSequences(tokens_of(documents), length, keep_tail=True)
    expected = naive_rows(documents, length)
    if len(expected[-1]) == 1:
        expected.pop()
    assert len(sequences) == len(expected)
    for index, cells in enumerate(expected):
        row = sequences.row(index)
        assert row.input_ids.tolist() == [token for token, _, _ in cells]
        assert row.labels.tolist() == [*(label for _, _, label in cells[:-1]), NO_LABEL]
        numbers = [number for _, number, _ in cells]
        assert row.documents.tolist() == [number - numbers[0] for number in numbers]
        assert row.positions.tolist() == [i - numbers.index(number) for i, number in enumerate(numbers)]


@given(DOCUMENTS, st.integers(2, 13))
def test_no_token_is_lost_or_doubled(documents: list[list[int]], length: int) -> None:
    tokens = tokens_of(documents)
    sequences = PackedSequences(tokens, length, keep_tail=False)
    rows = [sequences.row(index).input_ids for index in range(len(sequences))]
    assert all(len(row) == length for row in rows)
    kept = len(tokens.ids) // length * length
    assert np.concatenate([[], *rows]).tolist() == tokens.ids[:kept].tolist()


@given(DOCUMENTS, st.integers(2, 13))
def test_labels_stay_inside_documents(documents: list[list[int]], length: int) -> None:
    sequences = PackedSequences(tokens_of(documents), length, keep_tail=True)
    for index in range(len(sequences)):
        row = sequences.row(index)
        same = np.append(row.documents[1:] == row.documents[:-1], False)
        assert ((row.labels != NO_LABEL) == same).all()


@given(DOCUMENTS, st.integers(2, 13))
def test_a_row_for_each_document(documents: list[list[int]], length: int) -> None:
    sequences = DocumentSequences(tokens_of(documents), length)
    expected = [document[:length] for document in documents if len(document) > 1]
    assert len(sequences) == len(expected)
    for index, document in enumerate(expected):
        row = sequences.row(index)
        assert row.input_ids.tolist() == document
        assert row.labels.tolist() == [*document[1:], NO_LABEL]
        assert row.positions.tolist() == list(range(len(document)))
        assert not row.documents.any()


def test_rows_can_be_indexed_by_models() -> None:
    row = PackedSequences(tokens_of([[3, 5, 7], [11, 13]]), 5, keep_tail=False).row(0)
    arrays = (row.input_ids, row.labels, row.positions, row.documents)
    assert {values.dtype for values in arrays} == {np.dtype(np.int64)}
