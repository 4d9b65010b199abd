"""Types of the columns of CSV: numbers, booleans, JSON, and text."""

import re
from collections.abc import Callable, Sequence

import msgspec

from services.ingest.fast_validation import all_match
from services.ingest.mapping.row_format import decode, json_string

# Numbers as JSON writes them, up to 15 digits: others, such as 007, are text.
_NUMBER = r"-?(?:0|[1-9]\d*)(?:\.\d+)?"
_IS_NUMBER = re.compile(_NUMBER, re.ASCII)
_NUMBERS = re.compile(rf"(?:{_NUMBER}\n)+", re.ASCII)
_MAX_NUMBER_CHARS = 16
_BOOLEANS = ("true", "false")
# Characters that JSON has to escape, and one that some encoders escape.
_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f]')


class CellType:
    """Makes JSON of the cells of a column that are not empty. Those of another type are text."""

    def __init__(self, name: str, is_type: Callable[[str], bool]) -> None:
        self.name = name
        self.is_type = is_type

    def __call__(self, cell: str) -> str:
        return cell if self.is_type(cell) else json_string(cell)

    def texts(self, cells: Sequence[str]) -> Sequence[str]:
        """The JSON of many cells."""
        if self is TEXT:
            return json_strings(cells)
        if self is NUMBER and cells and _are_numbers(cells):
            return cells
        return list(map(self, cells))


def _is_number(cell: str) -> bool:
    return len(cell) <= _MAX_NUMBER_CHARS and bool(_IS_NUMBER.fullmatch(cell))


def _are_numbers(cells: Sequence[str]) -> bool:
    return max(map(len, cells)) <= _MAX_NUMBER_CHARS and all_match(_NUMBERS, cells)


def _is_boolean(cell: str) -> bool:
    return cell in _BOOLEANS


def _is_json(cell: str) -> bool:
    if not cell.startswith(("{", "[")):
        return False
    try:
        decode(cell)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


TEXT = CellType("text", lambda cell: False)
NUMBER = CellType("number", _is_number)
BOOLEAN = CellType("boolean", _is_boolean)
JSON_VALUE = CellType("JSON", _is_json)


def cell_type(cells: Sequence[str]) -> CellType:
    """The type of a column, by the cells of the first rows."""
    for kind in (NUMBER, BOOLEAN, JSON_VALUE):
        if cells and all(map(kind.is_type, cells)):
            return kind
    return TEXT


def json_strings(texts: Sequence[str]) -> list[str]:
    """The texts as strings of JSON."""
    if _ESCAPED.search("".join(texts)):
        return [json_string(text) for text in texts]
    return [f'"{text}"' for text in texts]
