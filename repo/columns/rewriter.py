"""Rewrite chunks without erased users, and without properties that were dropped.

Questions leave both out from the commit of the erasure or of the horizon on, so this may take any
number of transactions, and continues after an interruption.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import connection

from config.database import Cursor
from repo.columns.chunk_operations import select, without_properties
from repo.columns.chunk_replacement import ChunkReplacer
from repo.columns.chunk_table import ChunkRow, read_erased_users, select_chunks
from repo.columns.consumer import columns_locked
from repo.statements import statements

SQL = statements("columns_rewrite")

MAX_EVENTS = 500_000
"""Events of the chunks that a transaction rewrites without users, which takes 0.1 s."""
MAX_SEARCHED = 128
"""Chunks that a transaction searches for erased users."""
MAX_EXPIRED = 8
"""Chunks that a transaction rewrites without properties."""
_AT_ONCE = 16
"""Chunks whose users are in memory at the same time."""


class Rewriter:
    """Rewrites chunks in transactions of its own, and remembers which ones it has searched."""

    def __init__(self) -> None:
        self._search = _Search([])

    def step(self, conn: connection) -> int:
        """Rewrite some chunks, if any have to be; return how many were searched or rewritten.

        `conn` is in autocommit.
        """
        with conn.cursor() as cur:
            cur.execute(SQL["columns_rewrite_is_due"])
            if cur.fetchone() != (True,):
                return 0
        with columns_locked(conn) as cur:
            search = self._search.continued(read_erased_users(cur))
            done = _drop_properties(cur) or search.run(cur)
        # After the commit: what was rolled back has to be searched again.
        self._search = search
        return done


class _Search:
    """The search for erased users in all chunks, some in each transaction."""

    def __init__(self, erased: Sequence[int], searched: Mapping[int, int] | None = None) -> None:
        self._erased = erased
        self._searched = dict(searched or {})
        """The last chunk of each generation that was searched for these users."""
        self._budget = _Budget()

    def continued(self, erased: Sequence[int]) -> "_Search":
        """Return the next part of the search, which starts over if further users are erased."""
        return _Search(erased, self._searched if erased == self._erased else None)

    def run(self, cur: Cursor) -> int:
        """Rewrite chunks of erased users; return how many were searched."""
        if not self._erased:
            return 0
        cur.execute(SQL["columns_rewrite_generations"])
        generations = [generation for (generation,) in cur]
        if all(self._erase_from(cur, generation) for generation in generations):
            cur.execute(SQL["columns_rewrite_forget"], {"ordinals": self._erased})
        return max(1, self._budget.searched)

    def _erase_from(self, cur: Cursor, generation: int) -> bool:
        """Rewrite chunks of a generation; return whether all of them are without the users now."""
        replacer, rewritten = ChunkReplacer(cur, generation), self._budget.rewritten
        while not self._budget.is_spent and (rows := self._next_chunks(cur, generation)):
            users = replacer.read_users(rows)
            for row in takewhile(lambda _: not self._budget.is_spent, rows):
                is_erased = np.isin(users.pop(row.chunk_id), self._erased)
                if is_erased.any():
                    _erase_events(replacer, row, is_erased)
                self._budget.spend(row.events if is_erased.any() else 0)
                self._searched[generation] = row.chunk_id
        if self._budget.rewritten > rewritten:
            _raise_version(cur, generation)
        return not self._budget.is_spent

    def _next_chunks(self, cur: Cursor, generation: int) -> list[ChunkRow]:
        """Return the next chunks to search, which include those that were rewritten."""
        after = self._searched.get(generation, 0)
        params = {"generation": generation, "after": after, "limit": _AT_ONCE}
        cur.execute(select_chunks(SQL["columns_rewrite_chunks"]), params)
        return [ChunkRow(*row) for row in cur]


@dataclass(slots=True)
class _Budget:
    """The changes of a transaction, and whether they reached its limit."""

    searched: int = 0
    rewritten: int = 0
    """Events of chunks that were rewritten."""

    @property
    def is_spent(self) -> bool:
        return self.searched >= MAX_SEARCHED or self.rewritten >= MAX_EVENTS

    def spend(self, rewritten: int) -> None:
        self.searched += 1
        self.rewritten += rewritten


def _erase_events(replacer: ChunkReplacer, row: ChunkRow, is_erased: NDArray[np.bool_]) -> None:
    remaining = select(replacer.read(row), ~is_erased)
    replacer.delete(row)
    replacer.write(remaining, row, has_properties=row.has_properties)


def _drop_properties(cur: Cursor) -> int:
    """Rewrite chunks whose properties were dropped; return how many."""
    cur.execute(select_chunks(SQL["columns_rewrite_expired"]), {"limit": MAX_EXPIRED})
    expired = [(generation, start, ChunkRow(*row)) for generation, start, *row in cur]
    for generation, columns_from, row in expired:
        replacer = ChunkReplacer(cur, generation)
        chunk = replacer.read(row)
        is_old = chunk.time < columns_from
        replacer.delete(row)
        replacer.write(without_properties(select(chunk, is_old)), row, has_properties=False)
        replacer.write(select(chunk, ~is_old), row, has_properties=True)
        _raise_version(cur, generation)
    return len(expired)


def _raise_version(cur: Cursor, generation: int) -> None:
    """Let readers know that chunks have changed."""
    cur.execute(SQL["columns_rewrite_changed"], {"generation": generation})
