"""Events, folds, drops, kills, restores and rebuilds in any order: each answer is that of plain
Python over all events that were ever taken, or none, and none only where it needs what is gone."""

import time
from contextlib import ExitStack
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from psycopg2.extras import execute_values

from commands.verify import verify_all
from common.errors import EventsDropped
from common.parameters import ALL_TIME
from common.questions import ActiveUsers, EventCounts, TopEvents, UserEvents
from config.database import Database, get_connection
from repo.events import EventsRepo
from repo.lifecycle import retention as retention_module
from repo.rollups.rollup_writer import RollupWriter
from repo.verify.report import Findings
from services.lifecycle.retention import open_retention_run
from tests import oracle
from tests.oracle import Event
from tests.repo.test_fold_machine import run
from tests.servers import Cluster
from tests.source_comparison import connected
from utils.time.calendar import Range, day_start
from utils.time.ranges import previous_range
from utils.time.zones import zone

ZONES = [zone("UTC"), zone("America/New_York")]
NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)
LONG_AGO = 50
"""The days that events are of."""

INSERT = "insert into events (event_id, user_id, event_name, occurred_at) values %s"

MOMENTS = st.one_of(
    st.integers(1, LONG_AGO * 96).map(lambda slots: TODAY - slots * timedelta(minutes=15)),
    st.integers(1, LONG_AGO * 86_400).map(lambda seconds: TODAY - timedelta(seconds=seconds)),
    st.integers(1, 50).map(lambda minutes: NOW - timedelta(minutes=minutes)),
)
EVENTS = st.lists(
    st.builds(
        Event,
        event_id=st.builds(lambda: str(uuid4())),
        user_id=st.sampled_from(["", "u1", "u2", "u3"]),
        event_name=st.sampled_from("abc"),
        occurred_at=MOMENTS,
    ),
    min_size=1,
    max_size=8,
)
DATES = MOMENTS.map(lambda moment: moment.date())
Edges = tuple[Any, Any]
EDGES = st.one_of(st.tuples(MOMENTS, MOMENTS), st.tuples(DATES, DATES)).filter(
    lambda edges: edges[0] < edges[1]
)
TIME_ZONES = ["UTC", "America/New_York", "Asia/Kathmandu"]
IS_ROLLED = """
select exists (select
               from   fold_state
               where  is_current
               and    cluster = (select system_identifier from pg_control_system()))
"""


class Dropping(RuleBasedStateMachine):
    """One who folds and one who drops, in one database."""

    cluster: Cluster

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        url = self.cluster.migrated_database()
        self.stack.callback(self.cluster.drop, url)
        self.url = url
        self.conn = self.stack.enter_context(connected(url))
        database = Database(url, size=1, waiters=0, acquire_timeout_s=1, name="machine")
        self.stack.callback(database.close)
        self.repo = EventsRepo(get_connection(database, time.monotonic() + 600))
        self.folder = RollupWriter(self.stack.enter_context(connected(url)), ZONES)
        self.work = self.stack.enter_context(open_retention_run(url, ZONES, print))
        self.accepted: list[Event] = []
        self.refused = 0
        self.accepts_from = self.horizon = ALL_TIME.start

    def teardown(self) -> None:
        try:
            self.folder.catch_up()
            assert verify_all(self.url, ZONES).listed == []
            assert sum(self.work.repo.read_refused_counts().values()) == self.refused
        finally:
            self.stack.close()

    @rule(events=EVENTS)
    def written(self, events: list[Event]) -> None:
        with self.conn.cursor() as cur:
            execute_values(cur, INSERT, [astuple(event) for event in events])
        accepted = [event for event in events if event.occurred_at >= self.accepts_from]
        self.accepted += accepted
        self.refused += len(events) - len(accepted)

    @rule()
    def stepped(self) -> None:
        self.folder.step()

    @rule()
    def caught_up(self) -> None:
        self.folder.catch_up()

    @rule()
    def rebuilt(self) -> None:
        self.folder.rebuild()

    @rule()
    def a_rebuild_is_begun(self) -> None:
        self.folder._begin()

    @rule()
    def restored_elsewhere(self) -> None:
        self.conn.cursor().execute("update fold_state set cluster = 1")

    @rule(
        days=st.integers(1, LONG_AGO),
        how_far=st.sampled_from(["refuse", "publish", "a batch", "all"]),
    )
    def dropped(self, days: int, how_far: str) -> None:
        """As far as it comes before it is killed."""
        until = max(TODAY - days * DAY, self.horizon)
        self.work.fold()
        self.work.refuse(until)
        self.accepts_from = max(self.accepts_from, until)
        if how_far == "refuse":
            return
        findings = Findings()
        for part in self.work.repo.parts(until):
            self.work.repo.verify(part, findings)
        assert findings.listed == []
        self.work.publish(until, 0)
        self.horizon = until
        batches = self.work.drop(until)
        for _ in batches if how_far == "all" else islice(batches, int(how_far == "a batch")):
            pass

    @rule()
    def given_up(self) -> None:
        if self.accepts_from > self.horizon:
            self.work.cancel()
            self.accepts_from = self.horizon

    @rule(
        edges=EDGES,
        compare=st.sampled_from([None, "previous"]),
        tz=st.sampled_from(TIME_ZONES),
        event=st.sampled_from([(), ("a",)]),
        interval=st.sampled_from([None, "day", "month"]),
    )
    def event_counts_asked(self, edges: Edges, tz: str, **more: Any) -> None:
        question = EventCounts(start=edges[0], end=edges[1], tz=tz, **more)
        time_range = question.range(NOW)
        before = previous_range(time_range, NOW, zone(tz), "monday")
        needed = [time_range, before] if question.compare else [time_range]
        answer = self.answered(self.repo.get_event_counts, question, needed)
        if answer is None:
            return
        selected = oracle.events_between(self.accepted, *time_range, question.event)
        assert (answer.data.events, answer.data.users) == (len(selected), oracle.users(selected))
        if question.interval:
            filled = [bucket for bucket in answer.data.series if bucket.events]
            labels = oracle.by_label(selected, question.interval, tz, "monday")
            assert [(b.events, b.users) for b in filled] == [labels[key] for key in sorted(labels)]
        if previous := question.compare and answer.data.previous:
            selected = oracle.events_between(
                self.accepted, previous.start, previous.end, question.event
            )
            assert (previous.events, previous.users) == (len(selected), oracle.users(selected))

    @rule(edges=EDGES)
    def top_events_asked(self, edges: Edges) -> None:
        question = TopEvents(start=edges[0], end=edges[1])
        time_range = question.range(NOW)
        if answer := self.answered(self.repo.get_top_events, question, [time_range]):
            rows = [(row.event_name, row.events, row.users) for row in answer.data.rows]
            assert rows == oracle.top(oracle.events_between(self.accepted, *time_range, ()), 10)

    @rule(
        ago=st.integers(1, LONG_AGO),
        days=st.integers(1, 40),
        window=st.sampled_from([None, 45]),
        tz=st.sampled_from(TIME_ZONES),
    )
    def active_users_asked(self, ago: int, days: int, window: int | None, tz: str) -> None:
        first = (TODAY - ago * DAY).date()
        question = ActiveUsers(start=first, end=first + days * DAY, tz=tz, window=window)
        start = day_start(first - max(31, window or 0) * DAY, zone(tz))
        answer = self.answered(self.repo.get_active_users, question, [Range(start, NOW)])
        for point in answer.data.series if answer else []:
            since = {n: point.date - (n - 1) * DAY for n in (1, 7, 30, window or 1)}
            active = {
                n: oracle.active(self.accepted, tz, day, point.date) for n, day in since.items()
            }
            assert (point.dau, point.wau, point.mau) == (active[1], active[7], active[30])
            assert not window or point.active == active[window]

    @rule(edges=st.none() | EDGES, user=st.sampled_from(["u1", "u2"]), limit=st.integers(1, 5))
    def user_events_asked(self, edges: Edges | None, user: str, limit: int) -> None:
        bounds = {"start": edges[0], "end": edges[1]} if edges else {}
        question = UserEvents(user_id=user, limit=limit, **bounds)
        if edges and question.range(NOW).start < self.horizon:
            with pytest.raises(EventsDropped):
                self.repo.get_user_events(question)
            return
        pages = [self.repo.get_user_events(question)]
        while cursor := pages[-1].meta.next_cursor:
            pages.append(self.repo.get_user_events(question.model_copy(update={"cursor": cursor})))
        start, end = question.range(NOW)
        retained = oracle.events_between(self.accepted, max(start, self.horizon), end, ())
        own = [event for event in retained if event.user_id == user]
        newest_first = sorted(own, key=lambda e: (e.occurred_at, UUID(e.event_id)), reverse=True)
        assert [e.event_id for page in pages for e in page.data] == [
            e.event_id for e in newest_first
        ]
        for page in pages if not edges else []:
            assert page.meta.end is None
            assert page.meta.start == (self.horizon if self.horizon > ALL_TIME.start else None)

    def answered(self, method: Any, question: Any, needed: list[Range]) -> Any:
        """None where it needs what is dropped, and just there."""
        if self.is_rolled():
            edges = [edge for time_range in needed for edge in time_range]
            is_answerable = all(edge >= self.horizon or not _cuts_a_slot(edge) for edge in edges)
        else:
            is_answerable = all(asked.start >= self.horizon for asked in needed)
        explained = self.repo.get_plan(question).data
        assert explained.needs_dropped is not is_answerable
        assert explained.horizon == (self.horizon if self.horizon > ALL_TIME.start else None)
        if is_answerable:
            return method(question)
        with pytest.raises(EventsDropped):
            method(question)
        return None

    def is_rolled(self) -> bool:
        with self.conn.cursor() as cur:
            cur.execute(IS_ROLLED)
            return cur.fetchone() == (True,)


def _cuts_a_slot(instant: datetime) -> bool:
    return (instant - ALL_TIME.start) % timedelta(minutes=15) != timedelta(0)


@pytest.mark.thorough
def test_no_order_of_what_happens_makes_an_answer_wrong(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_module, "MAX_EVENTS", 3)
    machine = type("Dropping", (Dropping,), {"cluster": cluster})
    run(machine, max_count=12, steps=20)
