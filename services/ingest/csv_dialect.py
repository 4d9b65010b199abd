"""Encoding, delimiter and quotes of a CSV file, guessed from its first bytes."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

_DELIMITERS = (",", ";", "\t", "|")
_NAMES: Mapping[str, str] = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n?')
# Without a pair of bytes that UTF-8 has, high bytes beside letters are those of an old code page.
_LETTERS = re.compile(rb"[A-Za-z][\x8a\x8c\x8e\x9a\x9c\x9e\x9f\xc0-\xff]|[\xc0-\xff][A-Za-z]")
_UNDEFINED = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
_GUESSED_LINES = 20
NO_QUOTE = "\x01"
"""The quote of files without quotes: a character that they have not either."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The encoding, the delimiter and the layout of a CSV file."""

    encoding: str = "utf-8-sig"
    delimiter: str = ","
    quote: str = '"'
    skips_spaces: bool = False
    """Whether spaces after a delimiter are no part of the value."""
    skipped_lines: int = 0
    """Lines before the header."""
    header: tuple[str, ...] = field(default=())
    """The names of the columns of a file without a header."""

    @property
    def csv_options(self) -> Mapping[str, Any]:
        """The arguments of `csv.reader` that differ from its defaults."""
        options: dict[str, Any] = {}
        if self.delimiter != ",":
            options["delimiter"] = self.delimiter
        if self.quote != '"':
            options["quotechar"] = self.quote
        if self.skips_spaces:
            options["skipinitialspace"] = True
        return options

    @property
    def description(self) -> str:
        """Words about what differs from CSV with commas in UTF-8; empty without a difference."""
        parts = []
        if self.encoding not in ("utf-8-sig", "utf-8"):
            parts.append(self.encoding)
        if self.delimiter != ",":
            name = _NAMES.get(self.delimiter, self.delimiter)
            parts.append(f"columns separated by {name}")
        if self.quote not in ('"', NO_QUOTE):
            parts.append(f"quotes {self.quote}")
        return ", ".join(parts)


COMMA = Dialect()


def guess_encoding(head: bytes) -> str:
    """The encoding of a text that begins with these bytes."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        head.decode()
        return "utf-8-sig"
    except UnicodeDecodeError as exc:
        if exc.end >= len(head) - 1 and exc.reason == "unexpected end of data":
            return "utf-8-sig"
    has_utf8 = bool(re.search(rb"[\xc3-\xf4][\x80-\xbf]", head))
    is_old = bool(_LETTERS.search(head)) and not _UNDEFINED.search(head)
    return "cp1252" if is_old and not has_utf8 else "utf-8-sig"


def guess_dialect(
    head: bytes, encoding: str, delimiter: str | None = None, quote: str | None = None
) -> Dialect:
    """The dialect of a file that begins with these bytes; what is passed is not guessed."""
    text = head.decode(encoding, "replace")
    skipped = 0
    if match := _SEPARATOR_LINE.match(text):
        skipped, text = 1, text[match.end() :]
        delimiter = delimiter or match[1]
    lines = [line for line in text.splitlines(keepends=True) if line.strip()][:_GUESSED_LINES]
    delimiter = delimiter or _guess_delimiter(lines)
    dialect = Dialect(encoding, delimiter, quote or '"', skipped_lines=skipped)
    if quote is None and _widths(lines, replace(dialect, quote="'")) < _widths(lines, dialect):
        dialect = replace(dialect, quote="'")
    return replace(dialect, skips_spaces=_has_spaces(lines, delimiter))


def _guess_delimiter(lines: Sequence[str]) -> str:
    """The character that the first lines have most often outside of quotes."""
    first = re.sub(r'"[^"]*"', "", lines[0]) if lines else ""
    return max(_DELIMITERS, key=first.count) if first else ","


def _widths(lines: Sequence[str], dialect: Dialect) -> int:
    """The number of different numbers of fields in these lines, which may end within a row."""
    try:
        rows = list(csv.reader(lines, **dialect.csv_options))
    except csv.Error:
        return len(lines) + 1
    return len({len(row) for row in rows[:-1] or rows})


def _has_spaces(lines: Sequence[str], delimiter: str) -> bool:
    """Whether a space follows each delimiter of the header."""
    if delimiter == " " or not lines:
        return False
    _, *others = lines[0].rstrip("\r\n").split(delimiter)
    return bool(others) and all(name.startswith(" ") for name in others)
