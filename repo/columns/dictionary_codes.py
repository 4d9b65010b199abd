"""Codes of dictionaries."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from repo.columns.chunk import DecimalNumbers, TextValues


def ranks_of(order: Any) -> NDArray[np.int32]:
    """Return the rank of each entry of a dictionary, from the Arrow array that sorts it."""
    ranks = np.empty(len(order), np.int32)
    ranks[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
    return ranks


def stacked_codes(parts: Sequence[TextValues | DecimalNumbers]) -> NDArray[np.int32]:
    """Return codes for the dictionaries of all parts, one dictionary after the other."""
    starts = np.cumsum([0, *(len(part.dictionary) for part in parts)], dtype=np.int32)
    return np.concatenate(
        [part.codes + start for part, start in zip(parts, starts[:-1], strict=True)]
    )


def without_unused(codes: NDArray[Any], dictionary: Any) -> tuple[NDArray[Any], Any]:
    """Return codes and their dictionary without the entries that no code uses."""
    is_used = np.zeros(len(dictionary), np.bool_)
    is_used[codes] = True
    if is_used.all():
        return codes, dictionary
    new_codes = np.cumsum(is_used, dtype=np.int32) - np.int32(1)
    return new_codes[codes], dictionary.take(pa.array(np.flatnonzero(is_used)))
