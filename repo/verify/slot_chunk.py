"""A chunk of slots that is verified in one snapshot."""

from collections.abc import Mapping
from functools import cache

from psycopg2.extensions import cursor

from repo.verify.recount import Recount
from repo.verify.report import Findings, NameOf, compare
from repo.verify.snapshot import SQL, FoldState, Span
from repo.verify.stored_rows import StoredRow


class Chunk:
    """A run of slots to verify, and where to add the findings."""

    def __init__(
        self,
        cur: cursor,
        state: FoldState,
        span: Span,
        findings: Findings,
        *,
        is_sample: bool = False,
    ) -> None:
        """`is_sample`: no events after the chunk may be read."""
        self.cur = cur
        self.state = state
        self.span = span
        self.findings = findings
        self.is_sample = is_sample
        self._name_of = name_finder(cur)

    def compare(
        self, table: str, span: Span, expected: Recount, stored: Mapping[int, StoredRow]
    ) -> None:
        """Compare the rows of one slot or span with a recount, and add differences."""
        compare(self.findings, table, span, expected.rows(), stored, self._name_of)


def name_finder(cur: cursor) -> NameOf:
    """Return a function that looks up event names."""

    # One by one: few names are listed, and the dictionary may be very large.
    @cache
    def name_of(name_id: int) -> str | None:
        cur.execute(SQL["verify_name"], {"name_id": name_id})
        row = cur.fetchone()
        return str(row[0]) if row else None

    return name_of
