"""Who is erased has never been there: in no answer, row or set of users."""

import hashlib
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from psycopg2.extensions import connection
from pyroaring import BitMap

from commands.verify import verify_all
from common.questions.active_users import ActiveUsers
from common.questions.event_counts import EventCounts
from common.questions.top_events import TopEvents
from config.database_errors import DatabaseUnavailable, RightsMissing
from repo.lifecycle import erasure as erasure_module
from repo.lifecycle.erasure import EraseRepo
from repo.rollups import daily_stats, daily_stats_store, subtract_user
from repo.rollups.rollup_writer import SQL as FOLD
from repo.rollups.rollup_writer import RollupWriter
from repo.rollups.stores import FROM_EVENTS, FROM_ROLLUPS
from tests.events import insert
from tests.repo.test_state_machine import ZONES, FoldRules, run, terminate
from tests.servers import Cluster
from tests.source_comparison import Asker, connected
from utils.time.slots import slot_of

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
MARCH = datetime(2026, 3, 20, 12, tzinfo=UTC)
FULL_RANGE = EventCounts(last="500d", interval="month", tz="America/New_York")


def rows(conn: connection, text: str, *values: object) -> list[tuple[Any, ...]]:
    with conn.cursor() as cur:
        cur.execute(text, values or None)
        return cur.fetchall()


def in_sets(conn: connection) -> set[int]:
    """All ordinals in all sets of users, of all generations."""
    result_rows = rows(conn, "select users from slots union all select users from spans")
    return set(
        BitMap.union(BitMap(), *(BitMap.deserialize(bytes(users)) for (users,) in result_rows))
    )


def ordinals(conn: connection) -> set[int]:
    return {ordinal for (ordinal,) in rows(conn, "select ordinal from users")}


def traces(conn: connection, user: str) -> list[tuple[Any, ...]]:
    """Rows that name the user, of any table."""
    tables = rows(
        conn,
        "select table_name from information_schema.tables "
        "where table_schema = current_schema() and table_type = 'BASE TABLE'",
    )
    texts = (f"select '{table}' from {table} as t where t::text like %s" for (table,) in tables)
    return [row for text in texts for row in rows(conn, text, f"%{user}%")]


class EraseRules(FoldRules):
    """Erasures at any point of what the rollup writer does."""

    @rule()
    def begin_rebuild(self) -> None:
        """Another generation, which the next steps make beside the current one."""
        self.conn.cursor().execute(FOLD["fold_begin"])

    @invariant()
    def metrics_count_each_event_once(self) -> None:
        """Events that were counted stay counted when they are erased."""
        assert all(events <= self.counts[name] for name, events in self.unpublished().items())

    @rule(user=st.sampled_from(["u1", "u2", "u3"]))
    def erase(self, user: str) -> None:
        with connected(self.url) as conn:
            receipt = EraseRepo(conn).erase(user)
        remaining = [event for event in self.accepted if event.user_id != user]
        assert receipt.events == len(self.accepted) - len(remaining)
        self.accepted = remaining
        assert traces(self.conn, user) == []
        self.verify()

    @rule(user=st.sampled_from(["u1", "u2"]))
    def kill_erasure(self, user: str) -> None:
        with (
            pytest.MonkeyPatch.context() as patch,
            connected(self.url) as conn,
            suppress(DatabaseUnavailable),
        ):
            affected_days = daily_stats.affected_days

            def kill_first(*arguments: Any) -> Any:
                terminate(self.conn, conn)
                return affected_days(*arguments)

            patch.setattr(daily_stats, "affected_days", kill_first)
            EraseRepo(conn).erase(user)

    @invariant()
    def bitmaps_hold_known_users_alone(self) -> None:
        assert in_sets(self.conn) <= ordinals(self.conn)

    @invariant()
    def remaining_events_are_counted(self) -> None:
        answer = self.asker.compare(EventCounts(last="500d"))
        now = datetime.now(UTC)
        past = [event for event in self.accepted if event.occurred_at <= now]
        # The clock went on between the answer and this line.
        early = [event for event in past if event.occurred_at <= now - timedelta(seconds=2)]
        assert len(early) <= answer.events <= len(past)
        assert answer.users <= len({event.user_id for event in past} - {""})

    def verify(self) -> None:
        if rows(self.conn, "select from fold_state where is_current"):
            assert verify_all(self.url, ZONES).listed == []

    def teardown(self) -> None:
        self.writer.catch_up()
        self.verify()
        super().teardown()


@pytest.mark.thorough
def test_no_order_of_what_happens_leaves_a_trace(cluster: Cluster) -> None:
    machine = type("Machine", (EraseRules,), {"cluster": cluster})
    run(machine, max_examples=6, steps=15)


def test_a_receipt_tells_what_was_erased_and_of_whom_to_those_who_know(conn: connection) -> None:
    insert(conn, ("u", "view", MARCH), ("u", "view", MARCH), ("u", "buy", MARCH + 10 * DAY))
    insert(conn, ("v", "view", MARCH), ("", "view", MARCH))
    RollupWriter(conn, ZONES).catch_up()
    receipt = EraseRepo(conn).erase("u")
    assert (receipt.events, receipt.slots) == (3, 2)
    assert (receipt.first_month, receipt.last_month) == (date(2026, 3, 1), date(2026, 3, 1))
    assert receipt.days == (10 + 30) * len(ZONES)
    assert (receipt.suppressed, receipt.unknown_before) == (False, None)
    proof = hashlib.sha256(f"{receipt.salt}u".encode()).digest()
    ((erasure_id, stored_proof),) = rows(conn, "select erasure_id, proof from erasures")
    assert (erasure_id, bytes(stored_proof)) == (receipt.erasure_id, proof)


def test_a_user_whom_nobody_knows_has_a_receipt_of_nothing(conn: connection) -> None:
    insert(conn, ("u", "view", MARCH))
    RollupWriter(conn, ZONES).catch_up()
    before = rows(conn, "select slots::text from slots")
    first, second = (EraseRepo(conn).erase(user) for user in ("u", "u"))
    assert (first.events, second.events, second.days, second.first_month) == (1, 0, 0, None)
    assert first.erasure_id != second.erasure_id
    assert before
    assert rows(conn, "select from slots") == []


def test_nobody_and_others_stay(conn: connection, asker: Asker) -> None:
    insert(conn, ("u", "view", NOW - DAY), ("", "view", NOW - DAY), ("v", "view", NOW - DAY))
    insert(conn, ("u", "only of u", NOW - 2 * DAY))
    RollupWriter(conn, ZONES).catch_up()
    EraseRepo(conn).erase("u")
    question = TopEvents(start=NOW - 5 * DAY, end=NOW)
    answer = asker.compare(question)
    assert (answer.events, answer.users) == (2, 1)
    assert [row.event_name for row in answer.rows] == ["view"]
    assert rows(conn, "select sum(events), sum(dau), max(mau) from day_users") == [(4, 2, 1)]
    assert rows(conn, "select distinct event_name, events, users from day_events") == [
        ("view", 2, 1)
    ]


def test_numbers_are_exact_at_once(conn: connection, database_url: str) -> None:
    """Also those of days on which nobody did anything, of a month after."""
    insert(conn, ("u", "view", NOW - 29 * DAY), ("v", "view", NOW - 20 * DAY))
    RollupWriter(conn, ZONES).catch_up()
    EraseRepo(conn).erase("u")
    assert rows(conn, "select from daily_stats_queue") == []
    result_rows = rows(conn, "select mau from day_users where zone = 'UTC' order by day")
    assert [mau for (mau,) in result_rows] == [0] * 9 + [1] * 21
    assert verify_all(database_url, ZONES).listed == []


def test_events_that_are_not_folded_go_as_well(conn: connection, asker: Asker) -> None:
    insert(conn, ("u", "view", NOW - DAY), ("v", "view", NOW - DAY))
    RollupWriter(conn, ZONES).catch_up()
    insert(conn, ("u", "view", NOW - DAY), ("new", "view", NOW - DAY))
    for user, events in (("u", 2), ("new", 1)):
        assert EraseRepo(conn).erase(user).events == events
    assert asker.compare(FULL_RANGE).events == 1


def test_events_that_wait_for_their_time_go_as_well(conn: connection, asker: Asker) -> None:
    """Most often the slot of the present will hold them, and holds others."""
    now = datetime.now(UTC)
    soon = now + timedelta(seconds=40)
    insert(conn, *((user, "view", instant) for user in "uvw" for instant in (now, soon, soon)))
    RollupWriter(conn, ZONES).catch_up()
    assert EraseRepo(conn).erase("u").events == 3
    assert rows(conn, "select user_id from future_events order by 1") == [
        ("v",),
        ("v",),
        ("w",),
        ("w",),
    ]
    assert asker.compare(FULL_RANGE).events == 2


def test_ordinals_are_not_given_again(conn: connection, asker: Asker) -> None:
    insert(conn, ("u", "view", NOW - DAY), ("v", "view", NOW - DAY))
    RollupWriter(conn, ZONES).catch_up()
    for user in ("u", "v"):
        EraseRepo(conn).erase(user)
    insert(conn, ("u", "view", NOW - DAY))
    RollupWriter(conn, ZONES).catch_up()
    assert rows(conn, "select user_id, ordinal from users") == [("u", 3)]
    assert in_sets(conn) == {3}
    assert asker.compare(FULL_RANGE).users == 1


def test_versions_tell_workers_that_remember(conn: connection, asker: Asker) -> None:
    """Of sealed spans, and of the months that answers are kept for."""
    insert(conn, ("u", "view", MARCH), ("v", "view", MARCH), ("v", "view", MARCH - 60 * DAY))
    RollupWriter(conn, ZONES).catch_up()
    assert asker.compare(FULL_RANGE).users == 2
    ((before,),) = rows(conn, "select sealed from fold_state")
    EraseRepo(conn).erase("u")
    assert asker.compare(FULL_RANGE).users == 1
    ((month, version),) = rows(conn, "select max(month), max(version) from month_versions")
    assert version > before
    assert month == 2026 * 12 + 2
    assert rows(conn, "select version from month_versions where month < %s", month) == []


def test_a_failed_erasure_leaves_no_uncommitted_rows_in_caches(
    conn: connection, other: connection, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that erases also answers: it must not remember what was not committed."""
    insert(conn, ("u", "view", NOW - 3 * DAY), ("v", "view", NOW - 3 * DAY))
    rollup_writer = RollupWriter(conn, ZONES)
    rollup_writer.catch_up()
    asker.compare(FULL_RANGE)
    with monkeypatch.context() as patch:
        patch.setattr("repo.lifecycle.erasure.secrets.token_hex", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            EraseRepo(other).erase("u")
    for user in ("w", "x"):
        question = ActiveUsers(start=(NOW - 5 * DAY).date(), end=NOW.date())
        assert max(day.mau for day in asker.compare(question).series) == 2 + (user == "x")
        insert(conn, (user, "view", NOW - 4 * DAY))
        rollup_writer.catch_up()


def test_while_very_many_events_are_not_folded_numbers_come_later(
    conn: connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(conn, ("u", "view", NOW - 3 * DAY), ("v", "view", NOW - 3 * DAY))
    rollup_writer = RollupWriter(conn, ZONES)
    rollup_writer.catch_up()
    insert(conn, *[("w", "view", NOW - 2 * DAY)] * 5)
    monkeypatch.setattr(daily_stats_store, "LONG_TAIL", 5)
    EraseRepo(conn).erase("u")
    assert rows(conn, "select max(dau) from day_users") == [(None,)]
    rollup_writer.catch_up()
    assert rows(conn, "select max(mau), sum(events) from day_users") == [(2, 12)]
    assert verify_all(database_url, ZONES).listed == []


@pytest.mark.parametrize("at_once", [1, 3, 500])
def test_a_rebuild_that_is_under_way_loses_the_user_as_well(
    conn: connection,
    asker: Asker,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
) -> None:
    """It sweeps, and has come to the middle of the user's events; all is taken in parts."""
    monkeypatch.setattr(subtract_user, "_MAX_COUNTS", at_once)
    insert(conn, *(("u", "view", NOW - n * DAY / 3) for n in range(1, 12)))
    insert(conn, *(("v", "buy", NOW - n * DAY / 3) for n in range(1, 12)))
    RollupWriter(conn, ZONES).catch_up()
    insert(conn, ("u", "buy", NOW - DAY / 3), ("v", "view", NOW - DAY / 3))
    conn.cursor().execute(FOLD["fold_begin"])
    rollup_writer = RollupWriter(conn, ZONES, max_events=5)
    rollup_writer.step()
    rollup_writer.step()
    EraseRepo(conn).erase("u")
    assert verify_all(database_url, ZONES).listed == []
    for _ in range(3):
        assert in_sets(conn) == ordinals(conn)
        answer = asker.compare(FULL_RANGE)
        assert (answer.events, answer.users) == (12, 1)
        rollup_writer.step()
    rollup_writer.catch_up()
    assert rows(conn, "select is_current, count(*) over () from fold_state") == [(True, 1)]
    assert verify_all(database_url, ZONES).listed == []


def test_rollups_of_another_cluster_go_as_a_whole(
    conn: connection, asker: Asker, database_url: str
) -> None:
    """Nobody can tell which events they are made of, and no question asks them."""
    insert(conn, ("u", "view", NOW - DAY), ("v", "view", NOW - DAY))
    RollupWriter(conn, ZONES).catch_up()
    conn.cursor().execute("update fold_state set cluster = cluster + 1")
    receipt = EraseRepo(conn).erase("u")
    assert (receipt.events, receipt.slots, receipt.spans) == (1, 0, 0)
    for table in ("fold_state", "slots", "spans", "sealed_spans", "day_events"):
        assert rows(conn, f"select from {table}") == []
    assert asker.compare(FULL_RANGE).events == 1
    RollupWriter(conn, ZONES).catch_up()
    assert verify_all(database_url, ZONES).listed == []
    assert rows(conn, "select sum(events), max(mau) from day_users") == [(2, 1)]


def test_nothing_is_erased_in_the_middle_of_a_restore(conn: connection) -> None:
    insert(conn, ("u", "view", MARCH))
    conn.cursor().execute("alter table events drop constraint events_ingested_xid_is_its_own")
    with pytest.raises(DatabaseUnavailable, match="being restored"):
        EraseRepo(conn).erase("u")
    assert rows(conn, "select count(*) from events") == [(1,)]


def test_only_the_owner_can_erase(conn: connection) -> None:
    insert(conn, ("u", "view", MARCH))
    with conn.cursor() as cur:
        cur.execute("drop role if exists only_asks; create role only_asks")
        cur.execute("grant select on all tables in schema public to only_asks; set role only_asks")
    with pytest.raises(RightsMissing, match="only the owner"):
        EraseRepo(conn).erase("u")
    conn.cursor().execute("reset role; drop owned by only_asks; drop role only_asks")
    assert rows(conn, "select count(*) from events") == [(1,)]


def test_what_is_committed_later_is_new(conn: connection, other: connection, asker: Asker) -> None:
    insert(conn, ("u", "view", NOW - DAY))
    rollup_writer = RollupWriter(conn, ZONES)
    rollup_writer.catch_up()
    other.cursor().execute("begin")
    insert(other, ("u", "view", NOW - 2 * DAY))
    assert EraseRepo(conn).erase("u").events == 1
    other.cursor().execute("commit")
    for _ in range(2):
        answer = asker.compare(FULL_RANGE)
        assert (answer.events, answer.users) == (1, 1)
        rollup_writer.catch_up()


def test_before_the_horizon_users_go_and_counts_stay(conn: connection, asker: Asker) -> None:
    """There rollups alone are left: in whose slots a user is, only their sets can tell."""
    old = NOW - 70 * DAY
    insert(conn, ("u", "view", old), ("v", "view", old), ("u", "buy", old - 40 * DAY))
    insert(conn, ("u", "view", NOW - DAY), ("w", "view", old + DAY))
    RollupWriter(conn, ZONES).catch_up()
    first = (NOW - 60 * DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    cur = conn.cursor()
    cur.execute("insert into retention (takes_from, horizon) values (%s, %s)", (first, first))
    # One of those that are dropped is still there, as while the batches go on.
    cur.execute(
        "begin; set local analytics.reason = 'retain';"
        "delete from events where occurred_at < now() - interval '80 days'; commit"
    )
    horizon = slot_of(first)
    receipt = EraseRepo(conn).erase("u")
    assert receipt.events == 2
    assert receipt.slots == 3
    assert receipt.first_month == (old - 40 * DAY).date().replace(day=1)
    assert receipt.unknown_before == first
    assert in_sets(conn) == ordinals(conn)
    statement = "select sum(events)::int from slots where name_id = 0 and slot < %s"
    assert rows(conn, statement, horizon) == [(4,)]
    assert rows(conn, "select max(mau) from day_users where day < now() - interval '60 days'") == [
        (2,)
    ]
    again = EraseRepo(conn).erase("v")
    assert (again.events, again.slots, again.unknown_before) == (1, 1, first)


def test_the_only_rollups_of_what_was_dropped_are_never_forgotten(conn: connection) -> None:
    insert(conn, ("u", "view", NOW - 70 * DAY))
    RollupWriter(conn, ZONES).catch_up()
    first = (NOW - 60 * DAY).replace(hour=0, minute=0, second=0, microsecond=0)
    cur = conn.cursor()
    cur.execute("insert into retention (takes_from, horizon) values (%s, %s)", (first, first))
    cur.execute("update fold_state set cluster = cluster + 1")
    with pytest.raises(DatabaseUnavailable, match="another cluster hold what was dropped"):
        EraseRepo(conn).erase("u")
    assert rows(conn, "select sum(events)::int from slots where name_id = 0") == [(1,)]


@pytest.mark.parametrize(
    ("owner", "part"),
    [
        *((store, "erase") for store in (*FROM_EVENTS, *FROM_ROLLUPS)),
        (erasure_module._Erasure, "_delete_events"),
        (erasure_module._Erasure, "_receipt"),
    ],
)
def test_an_erase_that_is_cut_off_leaves_no_trace(
    conn: connection, other: connection, monkeypatch: pytest.MonkeyPatch, owner: type, part: str
) -> None:
    insert(conn, ("u", "view", NOW - DAY), ("v", "view", NOW - 3 * DAY))
    RollupWriter(conn, ZONES).catch_up()
    before = everything(conn)
    original = getattr(owner, part)

    def ending(*arguments: Any, **more: Any) -> Any:
        result = original(*arguments, **more)
        terminate(conn, other)
        return result

    monkeypatch.setattr(owner, part, ending)
    with suppress(psycopg2.Error), pytest.raises(DatabaseUnavailable):
        EraseRepo(other).erase("u")
    assert everything(conn) == before


def everything(conn: connection) -> list[list[tuple[Any, ...]]]:
    tables = (
        "events users fold_state slots sealed_spans spans future_events month_versions day_events "
    )
    tables += "day_users daily_stats_queue erasures erased_ordinals"
    return [rows(conn, f"select t::text from {table} as t order by 1") for table in tables.split()]
