"""Which database stands behind this process: a part of all keys that it has in Redis."""

import logging
from collections.abc import Callable
from secrets import token_hex

log = logging.getLogger("analytics.identity")

_UNKNOWN = "unknown-"


class Identity:
    """As far as this process knows; until it does, it shares its keys with nobody."""

    def __init__(self, value: str | None = None) -> None:
        self.value = value or _nobody()
        self._watchers: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called whenever another value is learnt."""
        self._watchers.append(changed)

    @property
    def is_known(self) -> bool:
        return not self.value.startswith(_UNKNOWN)

    def learn(self, value: str | None) -> None:
        """None where the database has none: it is another one than before, and not migrated."""
        if value == self.value or not (value or self.is_known):
            return
        if self.is_known:
            log.warning(
                "another database is reached now: what was kept of the last one is not used"
            )
        self.value = value or _nobody()
        for changed in self._watchers:
            changed()


def _nobody() -> str:
    return f"{_UNKNOWN}{token_hex(8)}"
