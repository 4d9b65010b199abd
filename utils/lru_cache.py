"""LRU cache in memory, used for the prepared queries of recent requests."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """A mapping that holds the `size` values that were used last.

    It is not thread-safe: it is for the event loop only.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: K) -> V | None:
        value = self._items.pop(key, None)
        if value is not None:
            self._items[key] = value  # moved to the end: dictionaries keep the insertion order
        return value

    def put(self, key: K, value: V) -> None:
        self._items.pop(key, None)
        self._items[key] = value
        if len(self._items) > self._size:
            del self._items[next(iter(self._items))]
