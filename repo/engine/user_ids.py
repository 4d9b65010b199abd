"""The ids of all users, which a process keeps to find those that contain or begin with a text."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from common.errors import TooExpensive
from common.filters import AnyOf
from config.database import Cursor
from repo.columns.column_tail import SQL
from repo.columns.value_matching import containing
from utils.copy_binary import decode
from utils.lru_cache import SharedLruCache

MAX_USERS = 2_000_000
MAX_BYTES = 64 * 2**20
"""The largest size of the ids that a process keeps."""
_MAX_DATABASES = 2  # each of several replicas behind one URL has ids of its own
_PIECE_USERS = 50_000  # users in a row of the result
_CHEAPER = "`@user:` with whole ids"


class UserIds(NamedTuple):
    """The ids of users, by ascending ordinals."""

    ordinals: NDArray[np.uint32]
    texts: pa.StringArray

    @property
    def highest(self) -> int:
        return int(self.ordinals[-1]) if len(self.ordinals) else 0

    def matching(self, test: AnyOf) -> NDArray[np.uint32]:
        """Return the ordinals of the users whose ids contain or begin with one of the texts."""
        texts = [text for text in test.values if isinstance(text, str)]
        if test.kind == "~":
            return self.ordinals[containing(self.texts, texts)]
        is_match = np.zeros(len(self.texts), np.bool_)
        for text in texts:
            is_match |= pc.starts_with(self.texts, text).to_numpy(zero_copy_only=False)
        return self.ordinals[is_match]

    def until(self, highest: int) -> "UserIds":
        """Return the users up to an ordinal."""
        count = int(np.searchsorted(self.ordinals, highest, side="right"))
        return UserIds(self.ordinals[:count], self.texts[:count])


NOBODY = UserIds(np.zeros(0, np.uint32), pa.array([], pa.string()))


class _KeptIds(NamedTuple):
    last_erasure: int
    """The number of the last erasure: ids of erased users are not kept."""
    ids: UserIds


class UserIdCache:
    """A bounded cache, shared by the threads of a process."""

    def __init__(self) -> None:
        self.ids: SharedLruCache[str, _KeptIds] = SharedLruCache(_MAX_DATABASES)


USER_ID_CACHE = UserIdCache()
"""The cache of this process."""


def read_user_ids(
    cur: Cursor, memory_key: str | None, cache: UserIdCache = USER_ID_CACHE
) -> UserIds:
    """Return the ids of all users of a snapshot. Raises: TooExpensive.

    Ordinals are never used again, so only users are read who came since the last question.
    `memory_key` identifies the users; None: they are read each time.
    """
    cur.execute(SQL["column_questions_last_user"])
    highest, last_erasure = cur.fetchone() or (0, 0)
    _check("users", int(highest), MAX_USERS)
    if memory_key is None:
        return _read_after(cur, NOBODY)
    kept = cache.ids.get(memory_key)
    known = kept.ids if kept and kept.last_erasure == last_erasure else NOBODY
    if known.highest >= highest:
        return known.until(highest)  # another thread may have a newer snapshot
    ids = _joined(known, _read_after(cur, known))
    # An older snapshot than that of the kept ids has fewer erasures.
    if kept is None or kept.last_erasure <= last_erasure:
        cache.ids.put(memory_key, _KeptIds(last_erasure, ids))
    return ids


def _read_after(cur: Cursor, known: UserIds) -> UserIds:
    """Return the users who came after those that are known."""
    params = {"after": known.highest, "piece_users": _PIECE_USERS}
    cur.execute(SQL["column_questions_user_id_bytes"], params)
    (size,) = cur.fetchone() or (0,)
    _check("bytes of user ids", int(size) + known.texts.nbytes, MAX_BYTES)
    rows = list(decode(cur.copy_out(SQL["column_questions_user_ids"], params), "bbb"))
    if not rows:
        return NOBODY
    ordinals, lengths, texts = (b"".join(column) for column in zip(*rows, strict=True))
    offsets = np.concatenate([[0], np.cumsum(np.frombuffer(lengths, ">i4"))]).astype(np.int32)
    numbers = np.frombuffer(ordinals, ">i4").astype(np.uint32)
    order = np.argsort(numbers)
    listed = pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(texts))
    return UserIds(numbers[order], listed.take(pa.array(order)))


def _joined(first: UserIds, second: UserIds) -> UserIds:
    return UserIds(
        np.concatenate([first.ordinals, second.ordinals]),
        pa.concat_arrays([first.texts, second.texts]),
    )


def _check(resource: str, count: int, allowed: int) -> None:
    if count > allowed:
        raise TooExpensive(resource, count, allowed, _CHEAPER)
