"""Verify a small random sample of the rollups, at low cost, for continuous verification."""

import random
from contextlib import suppress

from psycopg2.extensions import connection, cursor

from repo.verify.recount import Row, merge
from repo.verify.report import Difference, Findings, compare, format_span
from repo.verify.roaring import BadBitmap, decode
from repo.verify.slot_chunk import Chunk, name_finder
from repo.verify.snapshot import SQL, FoldState, Span, Unverifiable, snapshot
from repo.verify.stored_rows import StoredRows, stored_slots_of_name, stored_spans
from repo.verify.verifiers import recount_chunk

MAX_EVENTS = 20_000
_HOUR = 4


def verify_sample(conn: connection, max_events: int = MAX_EVENTS) -> Findings:
    """Recount a random hour, or a slot of an hour with more than `max_events` events.

    Without rollups nothing is compared. `conn` must be in autocommit. Raises: DatabaseUnavailable.
    """
    # Recounting a day or a month takes too long, so one row of one is compared with its slots.
    findings = Findings()
    with suppress(Unverifiable), snapshot(conn) as (cur, state):
        # Verification must not slow queries down.
        cur.execute(SQL["verify_background_priority"])
        if piece := _random_piece(cur, max_events):
            recount_chunk(Chunk(cur, state, piece, findings, is_sample=True))
            _verify_sum(cur, state, random.randrange(*piece), findings)
    return findings


def _random_piece(cur: cursor, max_events: int) -> Span | None:
    """Return an hour or a slot; None without events."""
    cur.execute(SQL["verify_random_hour"], {"limit": max_events + 1})
    start, events = cur.fetchone() or (0, 0)
    if events <= max_events:
        return Span(start, start + _HOUR) if events else None
    slot = start + random.randrange(_HOUR)
    return Span(slot, slot + 1)


def _verify_sum(cur: cursor, state: FoldState, slot: int, findings: Findings) -> None:
    """Compare one random row of a day or month that contains the slot with its slots."""
    cur.execute(SQL["verify_random_span"], {"generation": state.generation, "slot": slot})
    for span in [Span(*row) for row in cur]:
        cur.execute(SQL["verify_random_name"])
        (name_id,) = cur.fetchone() or (0,)
        expected = _sum(stored_slots_of_name(cur, state, span, name_id), findings)
        stored = stored_spans(cur, state, [span]).get(span, {})
        stored_row = {name_id: stored[name_id]} if name_id in stored else {}
        row = {name_id: expected} if expected else {}
        compare(findings, "spans", span, row, stored_row, name_finder(cur))


def _sum(slots: StoredRows, findings: Findings) -> Row | None:
    events, users = 0, []
    for slot, rows in slots.items():
        for row in rows.values():
            events += row.events
            try:
                users.append(decode(row.bitmap))
            except BadBitmap as exc:
                findings.add(Difference("slots", format_span(slot), f"{exc}", "a bitmap"))
    return Row(events, merge(users)) if users else None
