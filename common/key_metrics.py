"""Metrics of requests by the name of their API key, for at most 50 names.

All workers use the same names: those of the active keys, oldest first. When a key ends, its series
disappears from `/metrics` and the next name takes its place. Counts of other workers stay in their
files, and are not shown.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from itertools import islice
from weakref import WeakSet

from prometheus_client import Counter

from common.metrics import REGISTRY

# Bounds the number of series, which is that of names times that of statuses, for each worker.
MOST_NAMES = 50
NO_KEY = "(none)"
OTHER_KEYS = "(other)"
_RESERVED = {NO_KEY, OTHER_KEYS, "-"}  # have another meaning in labels and log lines
_PREFIX = "key "
_SERIES = "analytics_key_requests_total"

KEY_REQUESTS = Counter(
    "analytics_key_requests",
    "Requests that were answered, by the name of their key: (none) without a key that is known, "
    "(other) beyond 50 names.",
    ("key", "status"),
    registry=REGISTRY,
)

key_requests = cache(KEY_REQUESTS.labels)


def printable_name(name: str) -> str:
    """Return the name for log lines and labels: printable, and different from reserved words."""
    if name in _RESERVED:
        return _PREFIX + name
    return "".join(char if char.isprintable() else "?" for char in name)


def is_reserved(name: str) -> bool:
    """Return whether a new key may not have this name: it, or its label, has another meaning."""
    return name.removeprefix(_PREFIX) in _RESERVED


class KeyLabels:
    """The labels of one set of keys; `/metrics` shows those of all sets in this process."""

    def __init__(self) -> None:
        self.shown: frozenset[str] | None = None
        """None until the keys have been read."""
        _all.add(self)

    def update(self, names: Iterable[str]) -> Mapping[str, str]:
        """Return the label of each of the first 50 printable names; others share one label."""
        labels = {name: name for name in islice(dict.fromkeys(names), MOST_NAMES)}
        self.shown = frozenset(labels)
        return labels


_all: WeakSet[KeyLabels] = WeakSet()


def is_shown(series: str, labels: Mapping[str, str]) -> bool:
    """Return whether `/metrics` shows this series: all but those of keys that have ended."""
    if series != _SERIES or labels["key"] in (NO_KEY, OTHER_KEYS):
        return True
    known = [each.shown for each in list(_all) if each.shown is not None]
    return not known or any(labels["key"] in shown for shown in known)
