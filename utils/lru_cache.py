"""LRU cache in memory, for several threads."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from threading import Lock
from typing import Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K")
V = TypeVar("V")


class SharedLruCache(Generic[K, V]):
    """A `cachetools.LRUCache` with a lock. Its bound is in entries, or in the unit of `size_of`."""

    def __init__(self, max_size: int, size_of: Callable[[V], int] | None = None) -> None:
        self._lock = Lock()
        self._entries: LRUCache[K, V] = LRUCache(max_size, size_of)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        with self._lock:
            return self._entries.get(key)

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """Return the entries of those keys that are cached."""
        with self._lock:
            return {key: self._entries[key] for key in keys if key in self._entries}

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def put(self, key: K, value: V) -> None:
        self.put_many({key: value})

    def put_many(self, entries: Mapping[K, V]) -> None:
        """Store entries, except those that are larger than the bound."""
        with self._lock:
            for key, value in entries.items():
                self._entries.pop(key, None)
                with suppress(ValueError):  # "value too large"
                    self._entries[key] = value
