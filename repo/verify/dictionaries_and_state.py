"""Verify the dictionaries of users and event names, future events, and the state of folds."""

from collections.abc import Iterator

from psycopg2.extensions import connection, cursor

from repo.verify.report import Difference, Findings
from repo.verify.snapshot import SQL, FoldState, snapshot
from utils.formats import quantity


def verify_tables(conn: connection, findings: Findings) -> None:
    """Verify the tables besides slots and spans. Raises: Unverifiable, DatabaseUnavailable."""
    with snapshot(conn) as (cur, state):
        for table in ("users", "event_names"):
            _verify_dictionary(cur, table, findings)
        _verify_future_events(cur, state, findings)
        for difference in _check_state(cur, state):
            findings.add(difference)
        _verify_column_tables(cur, state, findings)


def _verify_dictionary(cur: cursor, table: str, findings: Findings) -> None:
    """Check that ids are unique and positive; whether they are right, slots and spans show."""
    cur.execute(SQL[f"verify_{table}"])
    rows, texts, numbers, refused = cur.fetchone() or (0, 0, 0, 0)
    findings.rows += rows
    if rows != texts or rows != numbers or refused:
        stored = f"{rows} rows of {texts} texts and {numbers} ids, {refused} of them below 1"
        findings.add(Difference(table, "", stored, "one id from 1 on for each text"))


def _verify_future_events(cur: cursor, state: FoldState, findings: Findings) -> None:
    cur.execute(SQL["verify_future_event_rows"], {"generation": state.generation})
    (rows,) = cur.fetchone() or (0,)
    findings.rows += rows
    cur.execute(SQL["verify_future_events"], state.params())
    for instant, name, stored, expected in cur:
        counts = (f"{quantity(count, 'event')} of one user" for count in (stored, expected))
        findings.add(Difference("future_events", f"{instant} {name!r}", *counts))


def _check_state(cur: cursor, state: FoldState) -> Iterator[Difference]:
    cur.execute(SQL["verify_fold_state"], {"generation": state.generation})
    first_slot, first, sealed, version = cur.fetchone() or (None, None, 0, None)
    if first is not None and (first_slot is None or first_slot > first):
        yield Difference("fold_state", "first_slot", str(first_slot), str(first))
    if version is not None and sealed < version:
        yield Difference("fold_state", "sealed", str(sealed), f"at least {version}")


def _verify_column_tables(cur: cursor, state: FoldState, findings: Findings) -> None:
    cur.execute(SQL["verify_column_tables"], {"generation": state.generation})
    for row in cur:
        findings.add(Difference(*row))
