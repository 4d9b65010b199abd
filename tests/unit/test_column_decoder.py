"""The decoder of columns that `verify` has for itself."""

import numpy as np
import pytest

from repo.columns.builder import EventRecord, build_chunk
from repo.columns.codec import encode_chunk
from repo.verify.column_decoder import BadColumn, StoredChunk, decode_chunk, decode_column

PATHS: dict[tuple[str, ...], int] = {("n",): 1, ("plan",): 2, ("paid",): 3}


def stored(*properties: str) -> dict[tuple[int, int], bytes]:
    """Return the columns of events with these properties, one second apart."""
    records = [
        EventRecord(number * 10**6, 7, 2, 900, number.to_bytes(16, "big"), text)
        for number, text in enumerate(properties, 1)
    ]
    return {
        (key.path_id, key.kind): data
        for key, data in encode_chunk(build_chunk(records), PATHS).items()
    }


def decoded(*properties: str) -> StoredChunk:
    arrays = {}
    for key, data in stored(*properties).items():
        arrays.update(decode_column(key, data))
    return decode_chunk(arrays)


def test_a_chunk_is_decoded() -> None:
    chunk = decoded('{"n": -0.50, "plan": "pro"}', '{"n": [7, 1.25], "paid": true}')
    assert chunk.time.tolist() == [1_000_000, 2_000_000]
    assert [chunk.user.tolist(), chunk.name.tolist()] == [[7, 7], [2, 2]]
    assert chunk.xid.tolist() == [900, 900]
    number, text, boolean = (chunk.columns[key] for key in [(1, 2), (2, 1), (3, 3)])
    assert number.rows.tolist() == [0, 1, 1]
    assert list(number.texts(number.codes.tolist())) == ["-0.5", "7", "1.25"]
    assert (text.rows.tolist(), list(text.texts([0]))) == ([0], ["pro"])
    assert (boolean.rows.tolist(), boolean.codes.tolist()) == ([1], [1])
    assert [*chunk.problems(), *number.bounds_problems(2), *number.order_problems()] == []


def test_numbers_beyond_64_bits_are_decoded() -> None:
    number = decoded('{"n": 1e400}', '{"n": 0.5}').columns[1, 2]
    assert number.dictionary is not None
    assert sorted(len(text) for text in number.texts([0, 1])) == [3, 401]


def test_large_chunks_have_a_row_for_each_column() -> None:
    columns = stored(*['{"n": 1}', '{"plan": "x"}'] * 2_500)
    assert sorted(columns) == [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 2), (2, 1)]
    with pytest.raises(BadColumn, match=r"it holds the columns \[\(1, 2\)\]"):
        decode_column((2, 1), columns[1, 2])


@pytest.mark.parametrize("data", [b"", b"nonsense", stored('{"n": 1}')[0, 0][:-20]])
def test_what_is_no_column_is_refused(data: bytes) -> None:
    with pytest.raises(BadColumn):
        decode_column((0, 0), data)


def test_a_chunk_without_times_is_refused() -> None:
    arrays = decode_column((0, 0), stored('{"n": 1}')[0, 0])
    del arrays[0, 1]
    with pytest.raises(BadColumn, match="KeyError"):
        decode_chunk(arrays)


def test_values_are_hashed_by_their_texts() -> None:
    column = decoded('{"n": 1.50}', '{"n": 2}', '{"n": 1.5}').columns[1, 2]
    first, second, third = column.hashes(np.full(3, True)).tolist()
    assert first == third == hash("1.5") % 2**64
    assert second == hash("2") % 2**64
