"""The life of events in any order: written, folded, killed, restored, rebuilt, dropped.

One machine with two sets of rules, each with invariants of its own: `FoldRules` for the rollup
writer, `RetentionRules` for `retain`. Each answer is that of plain Python over all events that
were ever accepted, or a refusal, and a refusal only where the answer needs dropped events. Columns
have a machine of their own.
"""

import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

import psycopg2
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from psycopg2.extensions import connection
from psycopg2.extras import execute_values

from commands.verify import verify_all
from common.dates import ALL_TIME
from common.errors import EventsDropped
from common.questions.active_users import ActiveUsers
from common.questions.base import Counting
from common.questions.event_counts import EventCounts
from common.questions.top_events import TopEvents
from common.questions.user_events import UserEvents
from config.database import Database, get_connection
from config.database_errors import DatabaseUnavailable
from repo.events import EventsRepo
from repo.lifecycle import retention as retention_module
from repo.rollups import rollup_writer as writer_module
from repo.rollups.claim import BatchClaimer
from repo.rollups.rollup_writer import RollupWriter
from repo.rollups.store import Horizon
from repo.rollups.stores import FROM_EVENTS, FROM_ROLLUPS
from repo.verify.report import Findings
from services.lifecycle.retention import open_retention_run
from tests import oracle
from tests.example_counts import examples
from tests.factories import with_cursor
from tests.oracle import Event
from tests.servers import Cluster
from tests.source_comparison import connected, limited_hour_spans, open_asker
from tests.wait_until import wait_until
from utils.time.calendar import Range, day_start
from utils.time.ranges import previous_range
from utils.time.zones import zone

ZONES = [zone("UTC"), zone("America/New_York")]
NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)
OLDEST_DAYS = 50

PARTS_OF_A_FOLD: list[tuple[Any, str]] = [
    (writer_module, "fold"),
    *((store, method) for store in (*FROM_EVENTS, *FROM_ROLLUPS) for method in ("apply", "seal")),
    (writer_module, "write_progress"),
    (RollupWriter, "_switch"),
]

INSERT = "insert into events (event_id, user_id, event_name, occurred_at, properties) values %s"

# Instants of the past, on and off the edges of slots; and how long before the present.
INSTANTS = st.one_of(
    st.integers(1, OLDEST_DAYS * 96).map(lambda slots: TODAY - slots * timedelta(minutes=15)),
    st.integers(1, OLDEST_DAYS * 86_400).map(lambda seconds: TODAY - timedelta(seconds=seconds)),
    st.integers(1, 50).map(lambda minutes: NOW - timedelta(minutes=minutes)),
)
SECONDS_AGO = st.one_of(
    st.integers(-2, 20),
    st.integers(0, 7200),
    st.integers(0, 100).map(lambda hours: hours * 3600),
    st.integers(0, 480).map(lambda days: days * 86_400),
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["", "u1", "u2", "u3"]), st.sampled_from("abc"), INSTANTS | SECONDS_AGO
    ),
    min_size=1,
    max_size=8,
)
DATES = INSTANTS.map(lambda instant: instant.date())
Edges = tuple[Any, Any]
EDGES = st.one_of(st.tuples(INSTANTS, INSTANTS), st.tuples(DATES, DATES)).filter(
    lambda edges: edges[0] < edges[1]
)
TIME_ZONES = ["UTC", "America/New_York", "Asia/Kathmandu"]
QUESTIONS: list[Counting] = [
    EventCounts(last="500d"),
    EventCounts(last="4d", interval="hour", tz="America/New_York", event=("a",)),
    EventCounts(last="500d", interval="month", tz="Asia/Kathmandu"),
    TopEvents(last="400d", tz="America/New_York"),
    ActiveUsers(last="40d", tz="America/New_York"),
]
IS_ROLLED_UP = """
select exists (select
               from   fold_state
               where  is_current
               and    cluster = (select system_identifier from pg_control_system()))
"""


# Events in slots of the current generation (of the first one before there is a current one), less
# those that wait in the outbox: what the metrics must have counted.
UNPUBLISHED = """
with counted as (
    select name_id, events
    from   slots
    where  generation = (select   generation
                         from     fold_state
                         order by is_current desc, generation
                         limit    1)
    union  all
    select name_id, -events from metrics_outbox
)
select case when event_name in ('a', 'b') then event_name else 'other' end as label,
       sum(events)::int
from   counted
join   event_names using (name_id)
group  by label
having sum(events) <> 0
"""


class FixedStrategy(BatchClaimer):
    """Claims batches in one way, however many events there are."""

    def __init__(self, limit: int, *, is_dense: bool) -> None:
        super().__init__(limit)
        self._dense = is_dense

    def _is_dense(self, *_: object) -> bool:
        return self._dense


class EventLife(RuleBasedStateMachine):
    """A database, who writes events to it, and what is true of all rule sets."""

    cluster: Cluster

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.url = self.cluster.migrated_database()
        self.stack.callback(self.cluster.drop, self.url)
        self.conn = self.stack.enter_context(connected(self.url))
        self.accepted: list[Event] = []
        self.refused = 0
        self.accepts_from = self.horizon = self.columns_from = ALL_TIME.start
        self.is_restored = False

    def teardown(self) -> None:
        self.stack.close()

    def insert(self, written: list[Event]) -> None:
        with self.conn.cursor() as cur:
            execute_values(cur, INSERT, [astuple(event) for event in written])
        accepted = [event for event in written if event.occurred_at >= self.accepts_from]
        self.accepted += accepted
        self.refused += len(written) - len(accepted)


class WriteRules(EventLife):
    """Programs that write events."""

    @rule(events=EVENTS)
    def write(self, events: list[tuple[str, str, datetime | int]]) -> None:
        self.insert([Event(str(uuid4()), user, name, instant(at)) for user, name, at in events])


def instant(at: datetime | int) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=at) if isinstance(at, int) else at


class WriterRules(EventLife):
    """One rollup writer at a time, as in production. Any part of its work may be cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.restart_writer(2)

    @rule()
    def step(self) -> None:
        self.writer.step()

    @rule()
    def catch_up(self) -> None:
        self.writer.catch_up()

    @rule(limit=st.sampled_from([1, 2, 500_000]), is_dense=st.booleans())
    def restart_writer(self, limit: int, is_dense: bool = False) -> None:
        """Its backfill reads all events in the order of time, or only the ids of the tail."""
        self.writer_conn = self.stack.enter_context(connected(self.url))
        self.writer = RollupWriter(self.writer_conn, ZONES, limit)
        self.writer._claimer = FixedStrategy(limit, is_dense=is_dense)

    @rule(part=st.sampled_from(PARTS_OF_A_FOLD), rebuilds=st.booleans())
    def kill_writer(self, part: tuple[Any, str], rebuilds: bool) -> None:
        """Within a transaction; the steps before it are committed."""
        owner, name = part
        with pytest.MonkeyPatch.context() as patch, suppress(DatabaseUnavailable, psycopg2.Error):
            patch.setattr(owner, name, self._killing(getattr(owner, name)))
            if rebuilds:
                self.writer.rebuild()
            self.writer.catch_up()
        self.restart_writer(500_000)

    @rule()
    def begin_rebuild(self) -> None:
        """Its steps are among those of others, and events come in between."""
        self.writer._begin()

    @rule()
    def rebuild(self) -> None:
        self.writer.rebuild()

    def _killing(self, part: Any) -> Any:
        def kill_first(*arguments: Any, **more: Any) -> Any:
            terminate(self.conn, self.writer_conn)
            return part(*arguments, **more)

        return kill_first


class FoldRules(WriterRules, WriteRules):
    """What rollups and metrics hold at each moment."""

    def __init__(self) -> None:
        super().__init__()
        self.asker = self.stack.enter_context(open_asker(self.url))
        self.counts: Counter[str] = Counter()

    @rule()
    def publish_metrics(self) -> None:
        self.counts.update(self.writer.take_outbox(["a", "b"]))

    @invariant()
    def metrics_count_each_event_once(self) -> None:
        # After a restore, events of before its first fold are counted by nobody.
        if not self.is_restored:
            assert self.unpublished() == +self.counts

    def unpublished(self) -> dict[str, int]:
        with self.conn.cursor() as cur:
            cur.execute(UNPUBLISHED)
            return dict(cur.fetchall())

    @invariant()
    def rollups_answer_as_events_do(self) -> None:
        if self.horizon == ALL_TIME.start:
            for question in QUESTIONS:
                self.asker.compare(question)


def terminate(conn: connection, victim: connection) -> None:
    with conn.cursor() as cur:
        cur.execute("select pg_terminate_backend(%s, 5000)", (victim.info.backend_pid,))


class DropRules(EventLife):
    """`retain` and restores."""

    def __init__(self) -> None:
        super().__init__()
        database = Database(self.url, size=1, waiters=0, acquire_timeout_s=1, name="machine")
        self.stack.callback(database.close)
        self.repo = EventsRepo(get_connection(database, time.monotonic() + 600))
        self.retention = self.stack.enter_context(open_retention_run(self.url, ZONES, print))

    def teardown(self) -> None:
        try:
            with connected(self.url) as conn:
                RollupWriter(conn, ZONES).catch_up()
            assert verify_all(self.url, ZONES).listed == []
            assert sum(self.retention.repo.read_refused_counts().values()) == self.refused
        finally:
            super().teardown()

    @rule()
    def restore_into_another_cluster(self) -> None:
        self.is_restored = True
        self.conn.cursor().execute("update fold_state set cluster = 1")

    @rule(
        days=st.integers(1, OLDEST_DAYS),
        stage=st.sampled_from(["refuse", "publish", "a batch", "all"]),
        keeps_properties=st.booleans(),
    )
    def drop(self, days: int, stage: str, keeps_properties: bool) -> None:
        """Up to the stage at which it is killed."""
        until = max(TODAY - days * DAY, self.horizon)
        self.retention.fold()
        self.retention.refuse(until)
        self.accepts_from = max(self.accepts_from, until)
        if stage == "refuse":
            return
        findings = Findings()
        for part in self.retention.repo.parts(until):
            self.retention.repo.verify(part, findings)
        assert findings.listed == []
        self.retention.publish(Horizon(until, None if keeps_properties else until), 0)
        self.horizon = until
        if not keeps_properties:
            self.columns_from = until
        batches = self.retention.drop(until)
        for _ in batches if stage == "all" else islice(batches, int(stage == "a batch")):
            pass

    @rule()
    def cancel_drop(self) -> None:
        if self.accepts_from > self.horizon:
            self.retention.cancel()
            self.accepts_from = self.horizon

    def is_rolled_up(self) -> bool:
        with self.conn.cursor() as cur:
            cur.execute(IS_ROLLED_UP)
            return cur.fetchone() == (True,)


class RetentionRules(DropRules, WriteRules):
    """Questions to the repo as the service asks them."""

    @rule(
        edges=EDGES,
        compare=st.sampled_from([None, "previous"]),
        tz=st.sampled_from(TIME_ZONES),
        event=st.sampled_from([(), ("a",)]),
        interval=st.sampled_from([None, "day", "month"]),
    )
    def ask_event_counts(self, edges: Edges, tz: str, **more: Any) -> None:
        question = EventCounts(start=edges[0], end=edges[1], tz=tz, **more)
        time_range = question.query.range_at(NOW)
        before = previous_range(time_range, NOW, zone(tz), "monday")
        needed = [time_range, before] if question.compare else [time_range]
        answer = self.answer(self.repo.get_event_counts, question, needed)
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
    def ask_top_events(self, edges: Edges) -> None:
        question = TopEvents(start=edges[0], end=edges[1])
        time_range = question.query.range_at(NOW)
        if answer := self.answer(self.repo.get_top_events, question, [time_range]):
            rows = [(row.event_name, row.events, row.users) for row in answer.data.rows]
            assert rows == oracle.top(oracle.events_between(self.accepted, *time_range, ()), 10)

    @rule(
        ago=st.integers(1, OLDEST_DAYS),
        days=st.integers(1, 40),
        window=st.sampled_from([None, 45]),
        tz=st.sampled_from(TIME_ZONES),
    )
    def ask_active_users(self, ago: int, days: int, window: int | None, tz: str) -> None:
        self.wait_for_future_events()
        first = (TODAY - ago * DAY).date()
        question = ActiveUsers(start=first, end=first + days * DAY, tz=tz, window=window)
        start = day_start(first - max(31, window or 0) * DAY, zone(tz))
        answer = self.answer(self.repo.get_active_users, question, [Range(start, NOW)])
        for point in answer.data.series if answer else []:
            since = {n: point.date - (n - 1) * DAY for n in (1, 7, 30, window or 1)}
            active = {
                n: oracle.active(self.accepted, tz, day, point.date) for n, day in since.items()
            }
            assert (point.dau, point.wau, point.mau) == (active[1], active[7], active[30])
            assert not window or point.active == active[window]

    @rule(edges=st.none() | EDGES, user=st.sampled_from(["u1", "u2"]), limit=st.integers(1, 5))
    def ask_user_events(self, edges: Edges | None, user: str, limit: int) -> None:
        bounds = {"start": edges[0], "end": edges[1]} if edges else {}
        question = UserEvents(user_id=user, limit=limit, **bounds)
        if edges and question.query.range_at(NOW).start < self.horizon:
            with pytest.raises(EventsDropped):
                self.repo.get_user_events(question.query)
            return
        pages = [self.repo.get_user_events(question.query)]
        while cursor := pages[-1].meta.next_cursor:
            pages.append(self.repo.get_user_events(with_cursor(question, cursor)))
        start, end = question.query.range_at(NOW)
        retained = oracle.events_between(self.accepted, max(start, self.horizon), end, ())
        own = [event for event in retained if event.user_id == user]
        newest_first = sorted(own, key=lambda e: (e.occurred_at, UUID(e.event_id)), reverse=True)
        assert [e.event_id for page in pages for e in page.data] == [
            e.event_id for e in newest_first
        ]
        for page in pages if not edges else []:
            assert page.meta.end is None
            assert page.meta.start == (self.horizon if self.horizon > ALL_TIME.start else None)

    def wait_for_future_events(self) -> None:
        """Wait until all events have occurred: answers leave out others, the oracle does not."""
        latest = max((event.occurred_at for event in self.accepted), default=NOW)
        wait_until(lambda: datetime.now(UTC) > latest, timeout_s=5)

    def answer(self, method: Any, question: Any, needed: list[Range]) -> Any:
        """None where the answer needs dropped events, and only there."""
        if self.is_rolled_up():
            edges = [edge for time_range in needed for edge in time_range]
            is_answerable = all(edge >= self.horizon or not _cuts_a_slot(edge) for edge in edges)
        else:
            is_answerable = all(time_range.start >= self.horizon for time_range in needed)
        explained = self.repo.get_plan(question.query).data
        assert explained.needs_dropped is not is_answerable
        assert explained.horizon == (self.horizon if self.horizon > ALL_TIME.start else None)
        if is_answerable:
            return method(question.query)
        with pytest.raises(EventsDropped):
            method(question.query)
        return None


def _cuts_a_slot(instant: datetime) -> bool:
    return (instant - ALL_TIME.start) % timedelta(minutes=15) != timedelta(0)


class Machine(FoldRules, RetentionRules):
    pass


@pytest.mark.thorough
def test_no_order_of_rules_makes_an_answer_wrong(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_module, "MAX_EVENTS", 3)
    machine = type("Machine", (Machine,), {"cluster": cluster})
    run(machine, max_examples=30, steps=20)


def run(machine: type[RuleBasedStateMachine], *, max_examples: int, steps: int) -> None:
    # Without shrinking, which takes minutes: the steps as they were found are few enough to read.
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    limits = settings(max_examples=examples(max_examples), stateful_step_count=steps, phases=phases)
    with limited_hour_spans(5):
        run_state_machine_as_test(machine, settings=limits)
