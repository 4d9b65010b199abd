"""Event names as a dimension of rollups: their dictionary of ids, and the filter of a query."""

import threading
from collections.abc import Iterable, Mapping
from functools import partial

from cachetools import LRUCache

from config.database import Cursor
from repo.engine.watermark import SQL, Watermark
from utils.lru_cache import SharedLruCache

ALL = 0
"""The id of all names together."""
_MAX_NAMES = 100_000  # cached in a process: about 25 MB

# While queries move to another generation, threads use the dictionaries of both.
_MAX_DICTIONARIES = 2

_EVERY_NAME = "name_id > 0"
_LISTED_NAMES = "name_id = any(%(name_ids)s::int[])"

Key = int | str
"""The id of an event name, or the name itself if the dictionary lacks it."""


class _Dictionary:
    """The cached dictionary of one memory key, in both directions."""

    def __init__(self, max_entries: int) -> None:
        self.names: SharedLruCache[Key, str] = SharedLruCache(max_entries)
        self.ids: SharedLruCache[str, int] = SharedLruCache(max_entries)


class EventNameDictionary:
    """The dictionary of event names, with a bounded cache in the process."""

    def __init__(self, max_entries: int = _MAX_NAMES) -> None:
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._dictionaries: LRUCache[str, _Dictionary] = LRUCache(_MAX_DICTIONARIES)

    def ids(self, cur: Cursor, memory_key: str, names: Iterable[str]) -> dict[str, int]:
        """Return the ids of those names that have one; the others are in no rollup."""
        requested, cache = list(names), self._dictionary(memory_key).ids
        ids = cache.get_many(requested)
        if missing := [name for name in requested if name not in ids]:
            cur.execute(SQL["rollups_name_ids"], {"names": missing})
            # Names without an id are not cached: the next fold may assign one.
            fetched = dict(cur.fetchall())
            cache.put_many(fetched)
            ids |= fetched
        return ids

    def names(self, cur: Cursor, memory_key: str, name_ids: Iterable[int]) -> dict[Key, str]:
        """Return the names of these ids."""
        requested, cache = list[Key](name_ids), self._dictionary(memory_key).names
        names = cache.get_many(requested)
        if missing := [name_id for name_id in requested if name_id not in names]:
            cur.execute(SQL["rollups_names"], {"name_ids": missing})
            fetched = dict(cur.fetchall())
            cache.put_many(fetched)
            names |= fetched
        return names

    def _dictionary(self, memory_key: str) -> _Dictionary:
        with self._lock:
            if memory_key not in self._dictionaries:
                self._dictionaries[memory_key] = _Dictionary(self._max_entries)
            return self._dictionaries[memory_key]


class EventNameFilter:
    """The event names that a query counts, together or each by itself."""

    def __init__(
        self,
        cur: Cursor,
        watermark: Watermark,
        event_names: list[str] | None,
        dictionary: EventNameDictionary,
        *,
        by_name: bool,
    ) -> None:
        self.event_names = event_names
        self.by_name = by_name
        self._cur = cur
        self._ids = partial(dictionary.ids, cur, watermark.memory_key)
        self._names = partial(dictionary.names, cur, watermark.memory_key)
        # The keys of names in events, fixed for the whole query: meanwhile other threads may cache
        # ids that the snapshot of this query does not see.
        self._keys: dict[str, Key] = {}
        self._names_by_key: dict[Key, str] = {}
        self.ids = [ALL] if event_names is None else list(self._ids(event_names).values())
        is_every_name = by_name and event_names is None
        self.row_count = watermark.name_count if is_every_name else len(self.ids)
        """How many rows a slot or span has at most."""
        self.condition = _EVERY_NAME if is_every_name else _LISTED_NAMES
        """The condition on rows of rollups, as SQL."""
        self.scope = "each" if is_every_name else repr(sorted(self.ids))
        """A text that is equal for queries that read the same rows, for cache keys."""

    def keys_of_events(self, names: Iterable[str]) -> Mapping[str, Key]:
        """Return the keys that events with these names count for."""
        if not self.by_name:
            return dict.fromkeys(names, ALL)
        new_names = set(names) - self._keys.keys()
        keys = dict[str, Key](zip(new_names, new_names, strict=True)) | self._ids(new_names)
        self._keys |= keys
        self._names_by_key |= {key: name for name, key in keys.items()}
        return self._keys

    def names_of(self, keys: Iterable[Key]) -> dict[Key, str]:
        """Return the names of keys."""
        from_events, remaining = self._split(keys)
        return from_events | self._names(remaining)

    def first_names(self, keys: Iterable[Key], count: int) -> dict[Key, str]:
        """Return the first `count` names of keys, in their order, without reading all of them."""
        from_events, remaining = self._split(keys)
        if len(remaining) > count:
            self._cur.execute(SQL["rollups_first_names"], {"name_ids": remaining, "count": count})
            names = from_events | dict(self._cur.fetchall())
        else:
            names = from_events | self._names(remaining)
        return dict(sorted(names.items(), key=lambda named: named[1])[:count])

    def _split(self, keys: Iterable[Key]) -> tuple[dict[Key, str], list[int]]:
        """Return the names of keys that are known from events, and the ids of the others."""
        requested = set(keys)
        from_events = {
            key: self._names_by_key[key] for key in requested & self._names_by_key.keys()
        }
        return from_events, [key for key in requested - from_events.keys() if isinstance(key, int)]
