"""Lines of a file in lists of limited size."""

from collections.abc import Iterator
from functools import partial
from itertools import islice

from services.ingest.input_rows import (
    DAMAGED,
    MAX_LINE_BYTES,
    MAX_PART_BYTES,
    Lines,
    TruncatedInput,
)

_LINES_AT_ONCE = 64


def lines_of(file: Lines, max_lines: int) -> Iterator[list[bytes]]:
    """The lines with their line breaks, at most `max_lines` at a time, fewer if they are long.

    A line that is too long is cut. If the input is damaged, the lines before the damage are yielded
    before its error is raised.

    Raises: TruncatedInput, any of DAMAGED.
    """
    read = iter(partial(file.readline, MAX_LINE_BYTES), b"")
    part, size, longest = list[bytes](), 0, MAX_PART_BYTES
    while True:
        lines = list[bytes]()
        count = min(max_lines - len(part), _LINES_AT_ONCE, max(1, MAX_PART_BYTES // longest))
        try:
            lines.extend(islice(read, count))
            longest = max(map(len, lines), default=1)
            if longest == MAX_LINE_BYTES:
                lines, is_open = _without_rests(lines)
                if is_open:
                    skip_line(file)
        except (TruncatedInput, *DAMAGED):
            yield part + lines
            raise
        part += lines
        size += sum(map(len, lines))
        if len(part) == max_lines or size > MAX_PART_BYTES or not lines:
            yield part
            part, size = [], 0
        if not lines:
            return


def is_cut(line: bytes) -> bool:
    """Whether a line is longer than this."""
    return len(line) == MAX_LINE_BYTES and not line.endswith(b"\n")


def skip_line(file: Lines) -> None:
    """Read to the end of a line."""
    while (part := file.readline(MAX_LINE_BYTES)) and not part.endswith(b"\n"):
        pass


def _without_rests(lines: list[bytes]) -> tuple[list[bytes], bool]:
    """The lines without the rests of those that are cut, and whether the last rest goes on."""
    starts, is_open = list[bytes](), False
    for line in lines:
        if not is_open:
            starts.append(line)
        is_open = (is_open or is_cut(line)) and not line.endswith(b"\n")
    return starts, is_open
