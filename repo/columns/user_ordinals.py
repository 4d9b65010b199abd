"""The ordinals of users for many events, by hashes of user ids.

Looking up the user of each event takes PostgreSQL longer than all else, and so does a join of each
page with all users. A hash and an ordinal take 12 bytes in memory, and a user id about 100.
"""

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from config.database import Cursor
from repo.columns.chunk_table import SQL
from repo.engine.tail import Snapshot
from repo.engine.watermark import read_user_count
from utils.copy_binary import decode

MAX_USERS = 2_000_000
"""If there are more users, PostgreSQL looks them up."""
_PIECE_USERS = 50_000
"""Users in a row of the result."""

MISSING = np.uint32(2**32 - 1)


class MissingIds(LookupError):
    """The user or the name of an event has no id."""


@dataclass(frozen=True, slots=True)
class UserTable:
    """Ordinals by the hashes of user ids, which are in ascending order and distinct."""

    seed: int
    hashes: NDArray[np.int64]
    values: NDArray[np.uint32]

    def ordinals(self, hashes: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the ordinals of users; MISSING for those that have none."""
        positions = np.searchsorted(self.hashes, hashes)
        positions[positions == len(self.hashes)] = 0
        return np.where(self.hashes[positions] == hashes, self.values[positions], MISSING)


class UserOrdinals:
    """Keeps the ordinals of users, for all steps of a backfill.

    All its users have had ordinals since before it began. A user who is erased meanwhile has no
    events in it any more; events that are stored after that, and another ordinal, are not in it.
    """

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._table: UserTable | None = None

    def table(self, cur: Cursor, generation: int, folded: Snapshot) -> UserTable | None:
        """Return the users of the events that a snapshot sees, which are folded.

        None if there are too many users. Raises: MissingIds.
        """
        key = (cur.connection, generation, folded)
        if self._key != key:
            self._table = _read_table(cur) if read_user_count(cur) <= MAX_USERS else None
            self._key = key
        return self._table

    def forget(self) -> None:
        """Read all users again for the next table."""
        self._key, self._table = (), None


def _read_table(cur: Cursor) -> UserTable | None:
    """Return all users; None if two of them have the same hash. Raises: MissingIds."""
    cur.execute(SQL["columns_lacks_ordinals"])
    if cur.fetchone() == (True,):
        # It would be no error, if the hash of another user was the same.
        raise MissingIds
    seed = secrets.randbits(63)  # nobody can choose user ids whose hashes are the same
    params = {"seed": seed, "piece_users": _PIECE_USERS}
    rows = list(decode(cur.copy_out(SQL["columns_user_hashes"], params), "bb"))
    hashes, ordinals = (b"".join(column) for column in zip(*rows, strict=True))
    table = np.frombuffer(hashes, ">i8").astype(np.int64)
    order = np.argsort(table)
    table = table[order]
    if (table[1:] == table[:-1]).any():
        return None
    return UserTable(seed, table, np.frombuffer(ordinals, ">i4").astype(np.uint32)[order])
