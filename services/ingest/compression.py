"""Opens files that may be compressed, and reads the beginning of a stream without consuming it."""

import bz2
import gzip
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast
from zipfile import BadZipFile, ZipFile

from services.ingest.input_rows import DAMAGED, Input, UnreadableInput

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PARQUET = b"PAR1"
"""The first bytes of a Parquet file."""
HEAD_BYTES = 4 * 1024 * 1024
_GZIP, _BZIP2, _ZSTD, _ZIP = b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"


def decompressed(raw: io.BufferedReader) -> Input:
    """The decompressed contents of a file; itself if it is not compressed."""
    start = raw.peek(4)[:4]
    # No BufferedReader around these: its contents would be lost if the input is truncated.
    if start.startswith(_GZIP):
        return gzip.GzipFile(fileobj=raw)
    if start.startswith(_ZSTD):
        return zstd.ZstdFile(raw)
    if start.startswith(_BZIP2):
        return bz2.BZ2File(raw)
    return raw


@contextmanager
def seekable_parquet(raw: io.BufferedReader) -> Iterator[io.BufferedReader]:
    """The stream; of a Parquet file that is compressed as a whole, its contents in a file.

    They are read in any order, which a compression does not allow.

    Raises: OSError, UnreadableInput.
    """
    if not raw.peek(4)[:4].startswith((_GZIP, _ZSTD, _BZIP2)):
        yield raw
        return
    head, stream = read_head(raw)
    start = readable_part(decompressed(io.BufferedReader(io.BytesIO(head))), len(PARQUET))
    if start != PARQUET:
        yield stream
        return
    try:
        file = spooled(decompressed(stream))
    except DAMAGED:
        raise UnreadableInput("the compressed input is truncated or damaged") from None
    with file:
        yield file


def is_zip(start: bytes) -> bool:
    return start.startswith(_ZIP)


def zip_members(file: io.BufferedReader) -> Iterator[tuple[str, io.BufferedReader]]:
    """The names and contents of the files in a zip archive. Raises: UnreadableInput."""
    try:
        with ZipFile(file) as archive:
            if "[Content_Types].xml" in archive.namelist():
                raise UnreadableInput("this is a workbook of Excel: save its sheets as CSV")
            for member in archive.infolist():
                if not member.is_dir() and not member.filename.startswith("__MACOSX/"):
                    with archive.open(member) as contents:
                        yield member.filename, _seekable(contents)
    # `zipfile` raises the last two for archives with unknown compression, or that are encrypted.
    except (BadZipFile, NotImplementedError, RuntimeError) as exc:
        raise UnreadableInput(f"the zip archive cannot be read: {exc}") from exc


def _seekable(contents: IO[bytes]) -> io.BufferedReader:
    return io.BufferedReader(cast(io.RawIOBase, contents))


def read_head(raw: io.BufferedReader) -> tuple[bytes, io.BufferedReader]:
    """The first bytes as they are stored, and a stream that begins with it again."""
    head = raw.read(HEAD_BYTES)
    if raw.seekable():
        raw.seek(0)
        return head, raw
    return head, prefixed(head, raw)


def prefixed(head: bytes, rest: IO[bytes]) -> io.BufferedReader:
    """A stream whose first bytes were read already: `head`, then `rest`."""
    return cast(io.BufferedReader, io.BufferedReader(_PrefixedStream(head, rest)))


def spooled(stream: IO[bytes] | Input) -> io.BufferedReader:
    """A file with the contents of a stream, which can be read in any order."""
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  the caller closes it
    try:
        shutil.copyfileobj(stream, file)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return io.BufferedReader(file)


class _PrefixedStream(io.RawIOBase):
    """A stream whose first bytes were read already: `head`, then `rest`."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        part: bytes | memoryview = self._head[:size]
        part = part if len(part) else self._rest.read1(size)  # type: ignore[attr-defined]
        self._head = self._head[size:]
        buffer[: len(part)] = part
        return len(part)


def readable_part(file: Input, size: int) -> bytes:
    """The first bytes of a file that may be damaged; fewer if it is."""
    parts: list[bytes] = []
    try:
        while size > 0 and (part := file.read(min(size, 65_536))):
            parts.append(part)
            size -= len(part)
    except (OSError, *DAMAGED):
        pass
    return b"".join(parts)
