"""Reader of JSON that is not one object per line: an array, an object with a list, or objects that
extend over lines. Each object becomes one line, so that it is read as NDJSON."""

import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from services.ingest.input_rows import MAX_LINE_BYTES, Input, TruncatedInput

_CHUNK_BYTES = 1024 * 1024
_SPACE = re.compile(r"[ \t\r\n,]*")
_OPEN_LINE = re.compile(r"[{\[]\s*$|[^}],\s*$")
# Linear time for any text: possessive quantifiers do not backtrack.
_ENVELOPE = re.compile(
    r'\{(?:\s*+"[^"]*+"\s*+:\s*+[^\[{,]*+,)*+\s*+"[^"]*+"\s*+:\s*+\[\s*+\{', re.ASCII
)
_MIN_ENVELOPE_CHARS = 4_096
_raw_decode = json.JSONDecoder().raw_decode


class JsonLines:
    """The objects of a file as lines. Raises TruncatedInput where the file is no valid JSON."""

    def __init__(self, file: Input, encoding: str = "utf-8-sig") -> None:
        self._lines = _objects(_Text(file, encoding))
        self._rest = b""

    def readline(self, size: int, /) -> bytes:
        """The next object with a line break, or a part of it; empty at the end."""
        if not self._rest:
            # A line break is not allowed within texts, so all of them are between values.
            flat = next(self._lines, "").replace("\r", " ").replace("\n", " ")
            self._rest = (flat + "\n").encode(errors="surrogateescape") if flat else b""
        line, self._rest = self._rest[:size], self._rest[size:]
        return line


def _objects(text: "_Text") -> Iterator[str]:
    """The text of each object."""
    if text.peek() == "[":
        text.skip("[")
        yield from _elements(text)
        if text.peek():
            raise TruncatedInput("there is more after the end of the JSON array")
        return
    is_first = True
    while text.peek() == "{":
        value, end = text.look_at_object()
        if value is None:
            yield from _members(text)
        else:
            line = text.take(end)
            if is_envelope(value, is_only=is_first and not text.peek()):
                yield from _members(_text_of(line))
            else:
                yield line
        is_first = False
    if text.peek():
        raise TruncatedInput("what follows is not a JSON object")


def extends_over_lines(text: str) -> bool:
    """Whether the object at the beginning of a text is not one line of NDJSON.

    It goes on after the end of its first line, or it holds the rows of the file.
    """
    first, _, rest = text.partition("\n")
    try:
        value, _ = _raw_decode(first)
    except (ValueError, RecursionError):
        # The next line of NDJSON begins with another object, though the first may be damaged.
        is_open = _OPEN_LINE.search(first) and rest.startswith((" ", "\t", "\r", '"', "}", "]"))
        return bool(is_open) or (not rest and _may_be_envelope(first))
    return is_envelope(value, is_only=not rest.strip())


def _may_be_envelope(start: str) -> bool:
    """Whether an object that is longer than what was read begins with a list of objects."""
    return len(start) > _MIN_ENVELOPE_CHARS and bool(_ENVELOPE.match(start))


def is_envelope(value: Any, *, is_only: bool) -> bool:
    """Whether an object is no row, but holds rows in a list.

    `is_only`: nothing else is in the file. Otherwise an object with other values is a row, such as
    a purchase with a list of items.
    """
    if not isinstance(value, dict) or not (is_only or len(value) == 1):
        return False
    if is_only and [*value.values()] == [[]]:
        return True
    lists = [each for each in value.values() if isinstance(each, list) and _are_objects(each)]
    return len(lists) == 1 and not any(isinstance(each, dict) for each in value.values())


def _are_objects(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, dict) for value in values)


def _elements(text: "_Text") -> Iterator[str]:
    """The elements of an array up to its end."""
    while text.peek() != "]":
        yield text.value()
    text.skip("]")


def _members(text: "_Text") -> Iterator[str]:
    """The elements of the one list in an object that is too long to be one event."""
    text.skip("{")
    while text.peek() != "}":
        text.value()
        if text.peek() != ":":
            raise TruncatedInput("this is not valid JSON")
        text.skip(":")
        if text.peek() == "[":
            text.skip("[")
            yield from _elements(text)
        else:
            text.value()
    text.skip("}")


def _text_of(text: str) -> "_Text":
    return _Text(io.BytesIO(text.encode(errors="surrogateescape")), "utf-8")


class _Text:
    """The text of a file, of which a part is in memory."""

    def __init__(self, file: Input, encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self._text = ""
        self._at = 0
        self._is_complete = False

    def peek(self) -> str:
        """The next character that is no space or comma; empty at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match, "it matches an empty text"
            self._at = match.end()
            if self._at < len(self._text) or not self._fill():
                return self._text[self._at : self._at + 1]

    def skip(self, character: str) -> None:
        """Skip a character. Raises: TruncatedInput if another one is next."""
        if self.peek() != character:
            raise TruncatedInput(f"this is not valid JSON: {character} is expected")
        self._at += 1

    def value(self) -> str:
        """The text of the next value. Raises: TruncatedInput."""
        value, end = self.look()
        if end < 0:
            raise TruncatedInput("a value is not valid JSON, or over 4 MB long")
        del value
        return self.take(end)

    def take(self, end: int) -> str:
        """The text up to a position, which is consumed."""
        text = self._text[self._at : end]
        self._at = end
        return text

    def look(self) -> tuple[Any, int]:
        """The next value and the position of its end; None and -1 if it is over 4 MB long.

        Raises: TruncatedInput.
        """
        self.peek()
        while True:
            try:
                value, end = _raw_decode(self._text, self._at)
                # A number may go on.
                if end < len(self._text) or not self._fill():
                    return value, end
            except (ValueError, RecursionError):
                if len(self._text) - self._at > MAX_LINE_BYTES:
                    return None, -1
                if not self._fill():
                    raise TruncatedInput("it ends within a value, or is not valid JSON") from None

    def look_at_object(self) -> tuple[Any, int]:
        """The next object as `look` returns it; None and -1 also if it is a list that is cut off.

        Raises: TruncatedInput.
        """
        try:
            return self.look()
        except TruncatedInput:
            if not _may_be_envelope(self._text[self._at :]):
                raise
            return None, -1

    def _fill(self) -> bool:
        """Read more; false at the end of the file."""
        if self._is_complete:
            return False
        data = self._file.read(_CHUNK_BYTES)
        self._is_complete = not data
        self._text = self._text[self._at :] + self._decoder.decode(data, not data)
        self._at = 0
        return not self._is_complete
