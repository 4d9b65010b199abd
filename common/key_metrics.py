"""Requests by the name of their API key: at most 50 names, which are the same ones in all workers.

The names are those of keys that work, oldest name first. When a key ends its name leaves the page
of metrics, and the next name takes its place; what other workers counted for it stays in their
files and is not shown.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from itertools import islice
from weakref import WeakSet

from prometheus_client import Counter

from common.metrics import REGISTRY

MOST_NAMES = 50
NO_KEY = "(none)"
OTHER_KEYS = "(other)"
_RESERVED = {NO_KEY, OTHER_KEYS, "-"}
"""Words that mean something else in labels and log lines."""
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
    """The name for log lines and labels: one line, and no word that is used for other things."""
    if name in _RESERVED:
        return f"key {name}"
    return "".join(char if char.isprintable() else "?" for char in name)


class KeyLabels:
    """The labels of one set of keys. The page shows those of all sets in this process."""

    def __init__(self) -> None:
        self.shown: frozenset[str] | None = None
        """None until the keys are known."""
        _all.add(self)

    def update(self, names: Iterable[str]) -> Mapping[str, str]:
        """The label of each printable name that has one of its own; `names` are in order."""
        labels = {name: name for name in islice(dict.fromkeys(names), MOST_NAMES)}
        self.shown = frozenset(labels)
        return labels


_all: WeakSet[KeyLabels] = WeakSet()


def is_shown(series: str, labels: Mapping[str, str]) -> bool:
    """Whether the page has this series: all but those of keys that have ended."""
    if series != _SERIES or labels["key"] in (NO_KEY, OTHER_KEYS):
        return True
    known = [each.shown for each in list(_all) if each.shown is not None]
    return not known or any(labels["key"] in shown for shown in known)
