"""What may befall a rollup worker and its readers, and changes no answer and stops nobody."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection
from pyroaring import BitMap

from common.questions.active_users import ActiveUsers
from common.questions.event_counts import EventCounts
from common.questions.top_events import TopEvents
from config.database_errors import DatabaseUnavailable
from repo.engine import span_cache as span_cache_module
from repo.engine.span_cache import Row, SpanCache, SpanKey
from repo.rollups import rollup_writer as rollup_writer_module
from repo.rollups import seal
from repo.rollups.rollup_writer import RollupWriter
from tests.events import insert
from tests.source_comparison import Asker
from utils.time.slots import HOUR, Span
from utils.time.zones import zone

ZONES = [zone("UTC"), zone("Europe/Berlin")]
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
HOUR_LONG = timedelta(hours=1)


def sealed(conn: connection) -> int:
    with conn.cursor() as cur:
        cur.execute("select count(*) from sealed_spans")
        return int((cur.fetchone() or (0,))[0])


def hour_of(instant: datetime) -> dict[str, Any]:
    start = instant.replace(minute=0, second=0, microsecond=0)
    return {"start": start, "end": start + HOUR_LONG}


def test_hours_that_are_no_longer_sealed_are_not_taken_for_empty(
    conn: connection, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = NOW - 5 * DAY
    insert(conn, ("u1", "view", old), ("u2", "view", old + HOUR_LONG))
    RollupWriter(conn, ZONES).catch_up()
    asker.compare(EventCounts(**hour_of(old)))

    # Time goes on by days: the rollup worker lets the old hours go, and seals new ones.
    for module in (seal, span_cache_module):
        monkeypatch.setattr(module, "SEALED_HOURS", 24 * HOUR, raising=False)
    RollupWriter(conn, ZONES).catch_up()
    insert(conn, ("u3", "view", NOW - 2 * HOUR_LONG))
    with conn.cursor() as cur:
        cur.execute("delete from sealed_spans where end_slot = (select max(end_slot) from spans)")
    RollupWriter(conn, ZONES).catch_up()
    assert asker.compare(EventCounts(**hour_of(old))).events == 1
    asker.compare(TopEvents(start=old - HOUR_LONG, end=old + 3 * HOUR_LONG))
    asker.compare(ActiveUsers(start=old.date(), end=NOW.date(), tz="Asia/Kathmandu"))


@pytest.mark.parametrize("most", [1, 2_000])
def test_spans_are_sealed_in_as_much_memory_as_there_is(
    conn: connection, asker: Asker, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    insert(conn, *((f"u{n}", "view", NOW - n * HOUR_LONG) for n in range(24 * 3)))
    steps: list[int] = []
    writer = RollupWriter(conn, ZONES)
    monkeypatch.setattr(seal, "MAX_SET_BYTES", most)
    while (step := writer.step()).has_more:
        steps.append(step.sealed["spans"])
    assert steps.count(1) > 40 if most == 1 else max(steps) > 20
    assert sum(steps) == sealed(conn)
    asker.compare(EventCounts(last="40d", interval="day", tz="Europe/Berlin"))


def test_a_clock_that_is_put_back_changes_no_answer(conn: connection, asker: Asker) -> None:
    """As well as a rollup worker that waited for another one longer than its transaction is old."""
    insert(conn, ("u1", "view", NOW), ("u2", "view", NOW + HOUR_LONG / 2))
    writer = RollupWriter(conn, ZONES)
    writer.catch_up()
    with conn.cursor() as cur:  # it was an hour later when the last fold took place
        cur.execute("delete from future_events returning occurred_at, event_name, user_id")
        cur.execute("update fold_state set folded_at = now() + interval '1 hour'")
        cur.execute("update fold_state set snapshot = '3:3:', first_slot = null")
        cur.execute("truncate slots, spans, sealed_spans")
    writer.step()
    insert(conn, ("u3", "view", NOW + HOUR_LONG / 4), ("u4", "view", NOW + 2 * HOUR_LONG))
    for _ in range(2):
        question = EventCounts(start=NOW - HOUR_LONG, end=NOW + 3 * HOUR_LONG)
        assert asker.compare(question).events == 3
        writer.step()


def test_a_clock_that_was_days_ahead_does_no_lasting_harm(conn: connection, asker: Asker) -> None:
    """Answers stop at the real present again as soon as all is made anew."""
    insert(conn, ("u1", "view", NOW), ("u2", "view", NOW + DAY))
    RollupWriter(conn, ZONES).catch_up()
    with conn.cursor() as cur:
        cur.execute("delete from future_events")
        cur.execute("update fold_state set folded_at = now() + interval '3 days'")
        cur.execute("update fold_state set snapshot = '3:3:', first_slot = null")
        cur.execute("delete from slots; delete from spans; delete from sealed_spans")
    question = EventCounts(start=NOW - DAY, end=NOW + 2 * DAY)
    assert asker.compare(question).events == 2
    RollupWriter(conn, ZONES).catch_up()
    assert asker.compare(question).events == 1
    RollupWriter(conn, ZONES).catch_up()
    with conn.cursor() as cur:
        cur.execute("select count(*), max(folded_at) <= now() from fold_state")
        assert cur.fetchone() == (1, True)


def test_a_rollup_worker_without_the_lock_continues_later(
    conn: connection, other: connection
) -> None:
    writer = RollupWriter(conn, ZONES)
    writer.catch_up()
    insert(conn, ("u1", "view", NOW))
    with conn.cursor() as cur:
        cur.execute("set lock_timeout = '50ms'")
    with other.cursor() as cur:
        cur.execute("begin; lock table fold_state in exclusive mode")
        with pytest.raises(DatabaseUnavailable):
            writer.step()
        cur.execute("commit")
    assert writer.catch_up() == 1


def test_rollup_workers_that_begin_together_both_continue(
    conn: connection, other: connection, asker: Asker
) -> None:
    """Each begins a generation; the first that is done is asked."""
    insert(conn, ("u1", "view", NOW))
    with conn.cursor() as cur:
        cur.execute(rollup_writer_module.SQL["fold_begin"])
        cur.execute(rollup_writer_module.SQL["fold_begin"])
    first, second = RollupWriter(conn, ZONES), RollupWriter(other, ZONES)
    first.catch_up()
    second.catch_up()
    assert asker.compare(EventCounts(last="2d")).events == 1
    assert asker.rollup_answers == 1


def test_what_a_failed_step_was_to_seal_is_sealed_by_the_next(
    conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(conn, ("u1", "view", NOW - 3 * DAY))
    undisturbed = RollupWriter(conn, ZONES)
    with monkeypatch.context() as patch:
        patch.setattr(rollup_writer_module, "write_progress", fail)
        with pytest.raises(ZeroDivisionError):
            undisturbed.step()
    undisturbed.catch_up()
    spans = sealed(conn)
    with conn.cursor() as cur:
        cur.execute("truncate fold_state, slots, sealed_spans, spans")
    RollupWriter(conn, ZONES).catch_up()
    assert spans == sealed(conn)


def test_spans_sealed_by_another_rollup_worker_are_not_changed(
    conn: connection, other: connection, asker: Asker
) -> None:
    """Though an event comes late for it."""
    insert(conn, ("u1", "view", NOW - 3 * DAY))
    first, second = RollupWriter(conn, ZONES), RollupWriter(other, ZONES)
    first.step()
    second.catch_up()
    insert(conn, ("u2", "view", NOW - 30 * DAY), ("u3", "view", NOW - 3 * DAY))
    first.catch_up()
    asker.compare(EventCounts(last="40d", interval="day", tz="Europe/Berlin"))


def fail(*_: object) -> None:
    raise ZeroDivisionError


def test_memory_counts_what_small_sets_cost() -> None:
    """A set of one user takes 18 bytes in a table, and some hundred in a process."""
    memory = SpanCache(max_bytes=100_000)
    keys = [SpanKey("l", Span(n, n + 1), 1, "each") for n in range(100)]
    for key in keys:
        memory.put_many({key: ({n: Row(1, BitMap([n])) for n in range(1, 101)}, 1800)})
    cached = memory.get_many(keys)
    assert 0 < len(cached) * 100 * 200 <= 100_000
