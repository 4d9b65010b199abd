"""A small part of the rollups, chosen at random: cheap enough to be verified all the time."""

import random
from contextlib import suppress

from psycopg2.extensions import connection, cursor

from repo.verify.check import Check, name_finder, sealed
from repo.verify.findings import Difference, Findings, compare, shown
from repo.verify.recount import Row, merged
from repo.verify.roaring import BadBitmap, decode
from repo.verify.snapshot import SQL, Span, State, Unverifiable, snapshot
from repo.verify.stored import Held, stored_slots_of, stored_spans

MOST_EVENTS = 20_000
_HOUR = 4


def verify_sample(conn: connection, most: int = MOST_EVENTS) -> Findings:
    """Recount a random hour, or a quarter of one that has more events than `most`.

    To recount a day or month would take too long: one row of one is compared with the slots under
    it. Where there are no rollups nothing is compared. `conn` must be in autocommit.

    Raises: DatabaseUnavailable.
    """
    findings = Findings()
    with suppress(Unverifiable), snapshot(conn) as (cur, state):
        cur.execute(SQL["verify_modestly"])
        if piece := _random_piece(cur, most):
            inside = [s for s in sealed(cur, state, piece, findings) if s.end <= piece.end]
            Check(cur, state, findings).verify(piece, inside)
            _verify_sum(cur, state, random.randrange(*piece), findings)
    return findings


def _random_piece(cur: cursor, most: int) -> Span | None:
    """None where there are no events."""
    cur.execute(SQL["verify_random_hour"], {"limit": most + 1})
    start, events = cur.fetchone() or (0, 0)
    if events <= most:
        return Span(start, start + _HOUR) if events else None
    slot = start + random.randrange(_HOUR)
    return Span(slot, slot + 1)


def _verify_sum(cur: cursor, state: State, slot: int, findings: Findings) -> None:
    """One row of a day or month that holds the slot."""
    cur.execute(SQL["verify_random_span"], {"generation": state.generation, "slot": slot})
    for span in [Span(*row) for row in cur]:
        cur.execute(SQL["verify_random_name"])
        (name_id,) = cur.fetchone() or (0,)
        true = _sum(stored_slots_of(cur, state, span, name_id), findings)
        stored = stored_spans(cur, state, [span]).get(span, {})
        of_name = {name_id: stored[name_id]} if name_id in stored else {}
        row = {name_id: true} if true else {}
        compare(findings, "spans", span, row, of_name, name_finder(cur))


def _sum(slots: Held, findings: Findings) -> Row | None:
    events, users = 0, []
    for slot, rows in slots.items():
        for row in rows.values():
            events += row.events
            try:
                users.append(decode(row.bitmap))
            except BadBitmap as exc:
                findings.differs(Difference("slots", shown(slot), f"{exc}", "a bitmap"))
    return Row(events, merged(users)) if users else None
