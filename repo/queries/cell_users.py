"""Parse the values of cells, and select the users of a row, for collectors that have them."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from common.cells import Cell
from common.filters import Filter, Name, Value
from common.property_values import json_value
from repo.columns.filter_evaluation import Mask
from repo.columns.row_filter import EventRow, matching_rows
from repo.engine.ordinals import Ordinals
from repo.queries.series import cell_error


def number_of(cell: Cell, field: str, low: int, high: int) -> int | None:
    """Return the number of a field, from `low` to `high`; None without it.

    Raises: InvalidParameter.
    """
    text = cell.fields.get(field)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
        raise cell_error(f"{field} must be a whole number from {low} to {high}")
    return int(text)


def option_of(cell: Cell, field: str, options: Sequence[str]) -> str | None:
    """Return the text of a field, which is one of the options; None without it.

    Raises: InvalidParameter.
    """
    text = cell.fields.get(field)
    if text is not None and text not in options:
        raise cell_error(f"{field} must be one of {', '.join(options)}")
    return text


def codes_of_row(
    cell: Cell, by: Name | None, values: Sequence[Value], shown: Sequence[int]
) -> Mask | None:
    """Return which codes of the values of a property are in the row of a cell; None without a row.

    `shown` are the codes of the rows of the answer. The last element of the result is that of a
    missing value, whose code is -1.

    Raises: InvalidParameter.
    """
    if cell.row is None and cell.where is None:
        return None
    assert by, "rows are values of a property"
    if cell.where is not None:
        return _matching_codes(cell.where, by, values)
    mask = np.full(len(values) + 1, cell.row == "other")
    mask[[*shown, -1]] = False
    mask[-1] = cell.row == "missing"
    return mask


def users_where(flags: NDArray[np.bool_]) -> Ordinals:
    """Return the ordinals for which a flag is set."""
    return np.flatnonzero(flags).astype(np.uint32)


def _matching_codes(where: Filter, by: Name, values: Sequence[Value]) -> Mask:
    rows = [_row(by, value) for value in values]
    return np.array(matching_rows(where, [*rows, EventRow("", "", "{}")]), np.bool_)


def _row(name: Name, value: Value) -> EventRow:
    """Return an event that has a value."""
    properties: Any = json_value(value)
    for key in reversed(name.path):
        properties = {key: properties}
    return EventRow("", "", msgspec.json.encode(properties).decode())
