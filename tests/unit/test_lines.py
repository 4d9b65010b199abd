"""Lines of a file, in lists of limited size."""

import io
import zlib
from itertools import chain

import pytest

from services.ingest.input_rows import MAX_LINE_BYTES, TruncatedInput
from services.ingest.lines import lines_of

LONG = b"x" * (MAX_LINE_BYTES + 5)
CUT = LONG[:MAX_LINE_BYTES]


def lines(content: bytes, max_lines: int = 500) -> list[list[bytes]]:
    return [part for part in lines_of(io.BytesIO(content), max_lines) if part]


def flat(content: bytes) -> list[bytes]:
    return list(chain.from_iterable(lines(content)))


def test_parts_are_limited_by_lines_and_by_size() -> None:
    assert lines(b"a\nb\nc\nd\ne", 2) == [[b"a\n", b"b\n"], [b"c\n", b"d\n"], [b"e"]]
    large = b"x" * (2**20 + 1) + b"\n"
    assert lines(large + b"a\n" + large + b"b") == [[large], [b"a\n", large, b"b"]]


@pytest.mark.parametrize("before", [0, 1, 3, 200])
def test_a_line_that_is_too_long_is_cut(before: int) -> None:
    """Wherever it begins among the lines that are read at once."""
    start = [b"%d\n" % n for n in range(before)]
    for end in (b"a\nb\n", b""):
        read = flat(b"".join([*start, LONG, b"\n", end]))
        assert read == [*start, CUT, *end.splitlines(keepends=True)]
    assert flat(b"".join([*start, LONG])) == [*start, CUT]
    assert flat(b"".join([*start, CUT[:-1], b"\na\n"])) == [
        *start,
        CUT[:-1] + b"\n",
        b"a\n",
    ]


class Damaged(io.BytesIO):
    """Ends with an error."""

    error: type[Exception] = zlib.error

    def readline(self, size: int | None = -1, /) -> bytes:
        if line := super().readline(size):
            return line
        raise self.error


@pytest.mark.parametrize("error", [zlib.error, EOFError, TruncatedInput])
def test_lines_before_damage_are_yielded_before_its_error(error: type[Exception]) -> None:
    file = Damaged(b"".join(b"%d\n" % n for n in range(150)))
    file.error = error
    read = lines_of(file, 100)
    assert [len(next(read)) for _ in range(2)] == [100, 50]
    with pytest.raises(error):
        next(read)
