"""Event names and the numbers that rollups know them by."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Generic, TypeVar

from config.database import Cursor
from repo.rollups.state import SQL, State

ALL = 0
"""The number of all names together."""
_MOST = 100_000
"""Names that a process remembers: some 25 MB."""
_MEMORIES = 2

K = TypeVar("K")
V = TypeVar("V")
Key = int | str
"""The number of a name, or the name itself where the dictionary lacks it."""


class _Recent(Generic[K, V]):
    """The entries that were used last; shared by threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, keys: Iterable[K]) -> dict[K, V]:
        """Those that are there."""
        with self._lock:
            found = {key: self._entries[key] for key in keys if key in self._entries}
            for key in found:
                self._entries.move_to_end(key)
        return found

    def put(self, entries: Mapping[K, V]) -> None:
        with self._lock:
            for key, value in entries.items():
                self._entries[key] = value
                self._entries.move_to_end(key)
            while len(self._entries) > self._most:
                self._entries.popitem(last=False)


class _Dictionary:
    """Of one memory key; it only grows."""

    def __init__(self, most: int) -> None:
        self.names: _Recent[Key, str] = _Recent(most)
        self.ids: _Recent[str, int] = _Recent(most)


class NameIds:
    """What a process remembers of the dictionary: what was asked for last, and bounded."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._of: OrderedDict[str, _Dictionary] = OrderedDict()

    def ids(self, cur: Cursor, memory_key: str, names: Iterable[str]) -> dict[str, int]:
        """The numbers of those names that have one: the others are in no rollup."""
        wanted, known = list(names), self._dictionary(memory_key).ids
        found = known.find(wanted)
        if missing := [name for name in wanted if name not in found]:
            cur.execute(SQL["rollups_ids"], {"names": missing})
            learned = dict(cur.fetchall())
            known.put(learned)
            found |= learned
        return found

    def names(self, cur: Cursor, memory_key: str, name_ids: Iterable[int]) -> dict[Key, str]:
        """The names of these numbers."""
        wanted, known = list[Key](name_ids), self._dictionary(memory_key).names
        found = known.find(wanted)
        if missing := [name_id for name_id in wanted if name_id not in found]:
            cur.execute(SQL["rollups_names"], {"name_ids": missing})
            learned = dict(cur.fetchall())
            known.put(learned)
            found |= learned
        return found

    def _dictionary(self, memory_key: str) -> _Dictionary:
        """Threads ask for two of them while questions move from one to the other."""
        with self._lock:
            if memory_key not in self._of:
                self._of[memory_key] = _Dictionary(self._most)
            self._of.move_to_end(memory_key)
            while len(self._of) > _MEMORIES:
                self._of.popitem(last=False)
            return self._of[memory_key]


class Names:
    """Which names a question counts: all or some, together or each."""

    def __init__(
        self, cur: Cursor, state: State, asked: list[str] | None, known: NameIds, *, each: bool
    ) -> None:
        self.asked = asked
        self.each = each
        self._cur = cur
        self._ids = partial(known.ids, cur, state.memory_key)
        self._names = partial(known.names, cur, state.memory_key)
        self._keys: dict[str, Key] = {}
        """Of this question's events, the same for all of it: while it reads, other threads learn
        numbers that its own snapshot does not see."""
        self._seen: dict[Key, str] = {}
        """The same by key."""
        self.ids = [ALL] if asked is None else list(self._ids(asked).values())
        self._count = state.names if each and asked is None else len(self.ids)

    def __len__(self) -> int:
        return self._count

    @property
    def condition(self) -> str:
        """Of rows of rollups, in SQL."""
        every = self.each and self.asked is None
        return "name_id > 0" if every else "name_id = any(%(name_ids)s::int[])"

    @property
    def scope(self) -> str:
        """The same for questions that read the same rows."""
        return "each" if self.each and self.asked is None else repr(sorted(self.ids))

    def of_row(self, name_id: int) -> int:
        """What a row of rollups counts for."""
        return name_id if self.each else ALL

    def of_events(self, names: Iterable[str]) -> Mapping[str, Key]:
        """What events with these names count for."""
        if not self.each:
            return dict.fromkeys(names, ALL)
        unknown = set(names) - self._keys.keys()
        keys = dict[str, Key](zip(unknown, unknown, strict=True)) | self._ids(unknown)
        self._keys |= keys
        self._seen |= {key: name for name, key in keys.items()}
        return self._keys

    def texts(self, keys: Iterable[Key]) -> dict[Key, str]:
        """The names that were counted for."""
        known, rest = self._split(keys)
        return known | self._names(rest)

    def first(self, keys: Iterable[Key], count: int) -> dict[Key, str]:
        """So many of them, in the order of their names: of very many the others are not read."""
        known, rest = self._split(keys)
        if len(rest) > count:
            self._cur.execute(SQL["rollups_first_names"], {"name_ids": rest, "count": count})
            found = known | dict(self._cur.fetchall())
        else:
            found = known | self._names(rest)
        return dict(sorted(found.items(), key=lambda named: named[1])[:count])

    def _split(self, keys: Iterable[Key]) -> tuple[dict[Key, str], list[int]]:
        """Those whose names stand in events, and the numbers of the others."""
        wanted = set(keys)
        known = {key: self._seen[key] for key in wanted & self._seen.keys()}
        return known, [key for key in wanted - known.keys() if isinstance(key, int)]
