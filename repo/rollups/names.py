"""Event names and the numbers that rollups know them by."""

from collections.abc import Iterable
from functools import partial

from config.database import Cursor
from repo.rollups.state import SQL, State

_ALL = [0]


class NameIds:
    """What a process remembers of the dictionary, which only grows."""

    def __init__(self) -> None:
        self._ids: dict[str, dict[str, int]] = {}
        self._names: dict[str, dict[int, str]] = {}

    def ids(self, cur: Cursor, lineage: str, names: Iterable[str]) -> list[int]:
        """Of those names that have one: the others are in no rollup."""
        known = self._ids.get(lineage, {})
        if missing := [name for name in names if name not in known]:
            learned = self._learn(cur, lineage, missing)
            known = {name: name_id for name_id, name in learned.items()}
        return [known[name] for name in names if name in known]

    def name(self, cur: Cursor, lineage: str, name_id: int) -> str:
        known = self._names.get(lineage, {})
        if name_id not in known:
            known = self._learn(cur, lineage, None)
        return known[name_id]

    def _learn(self, cur: Cursor, lineage: str, asked: list[str] | None) -> dict[int, str]:
        """What is kept may be another lineage's at once: threads ask for both."""
        cur.execute(SQL["rollups_names"], {"names": asked})
        names: dict[int, str] = {**self._names.get(lineage, {}), **dict(cur.fetchall())}
        ids = {name: name_id for name_id, name in names.items()}
        self._names, self._ids = {lineage: names}, {lineage: ids}
        return names


class Names:
    """Which names a question counts: all or some, together or each."""

    def __init__(
        self, cur: Cursor, state: State, asked: list[str] | None, known: NameIds, *, each: bool
    ) -> None:
        self.asked = asked
        self.each = each
        self.ids = _ALL if asked is None else known.ids(cur, state.lineage, asked)
        self._count = state.names if each and asked is None else len(self.ids)
        self._name = partial(known.name, cur, state.lineage)

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
        return "each" if self.each and self.asked is None else repr(self.ids)

    def of(self, name_id: int) -> str:
        """What a row counts for: its name, or '' for all together."""
        return self._name(name_id) if self.each else ""
