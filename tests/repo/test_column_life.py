"""The life of columns in any order: written, merged, rewritten, rebuilt, restored, killed.

Each answer to a question with a filter is that of plain Python over all events that were accepted
and not erased, whether they are in chunks, in the tail, or dropped; or a refusal where the answer
needs dropped properties.
"""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from common.errors import EventsDropped
from common.filters import Name
from common.questions.event_counts import EventCounts
from common.questions.properties import Properties
from config.database_errors import DatabaseUnavailable
from repo.catalogue import count
from repo.catalogue.count import count_if_due
from repo.columns import chunk_writer, codec, consumer, retained_chunks, rewriter, tiers
from repo.columns.chunk_writer import ChunkWriter
from repo.columns.consumer import Consumer
from repo.columns.unwritten_events import Limits
from repo.lifecycle import retention as retention_module
from repo.lifecycle.erasure import EraseRepo
from repo.rollups.rollup_writer import RollupWriter
from tests import catalogue_oracle, oracle, where_oracle
from tests.column_contents import chunk_rows, query, read_chunk
from tests.oracle import Event
from tests.repo.test_state_machine import (
    DAY,
    EDGES,
    INSTANTS,
    SECONDS_AGO,
    TODAY,
    ZONES,
    DropRules,
    Edges,
    WriterRules,
    instant,
    run,
)
from tests.servers import Cluster
from tests.source_comparison import connected, finished
from tests.where_strategies import filters

PARTS_OF_COLUMNS: list[tuple[Any, str]] = [
    *((Consumer, name) for name in ("_write_new", "_write_backfill")),
    (consumer, "merge"),
    (ChunkWriter, "write"),
    *((rewriter, name) for name in ("_erase_events", "without_properties", "_raise_version")),
    *((retained_chunks, name) for name in ("_copy", "select")),
]
OBJECTS = [
    *("{}", '{"a": "x"}', '{"a": "xy"}', '{"a": "5"}', '{"a": 5}', '{"a": 5.0}', '{"a": null}'),
    *('{"a": true}', '{"a": ["x", 5, "xy"]}', '{"a": {"b": "x"}}', '{"a.b": -1, "b": "Xy"}'),
    *('{"a": [{"b": 5}, {"b": "y"}], "b": 0}', '{"b": 12345678901234567890.5}', '{"": "x"}'),
]
CONDITIONS = [
    *("a:x", "a:5", 'a:"5"', "a:*", "a:>0", "a:^x", "a:~Y", "a:true", "a:x,5", "a.b:*", "a.b:5"),
    *("b:-1..5", "b:>1000", "b:~xY", '"a.b":-1', '"":x', "nothing:*", "@event:view", "@user:u1"),
    *("@user:~u", "@event:^b", "@user:*"),
]
FILTERS = filters(st.sampled_from(CONDITIONS), levels=1)
WRITTEN = st.lists(
    st.tuples(
        st.sampled_from(["", "u1", "u2", "U1"]),
        st.sampled_from(["view", "buy"]),
        INSTANTS | SECONDS_AGO,
        st.sampled_from(OBJECTS),
    ),
    min_size=1,
    max_size=8,
)
ALL = "-nothing:*"
SMALL: list[tuple[Any, str, int]] = [
    (count, "MIN_EVENTS", 0),
    (chunk_writer, "MAX_CHUNK_EVENTS", 7),
    (tiers, "MAX_CHUNK_EVENTS", 7),
    (tiers, "_LARGE_EVENTS", 3),
    (tiers, "FAN_IN", 3),
    (consumer, "LAZY_EVENTS", 3),
    (codec, "PACKED_EVENTS", 3),
    (rewriter, "MAX_EVENTS", 5),
    (rewriter, "MAX_SEARCHED", 3),
    (rewriter, "MAX_EXPIRED", 1),
    (rewriter, "_AT_ONCE", 2),
    (retention_module, "MAX_EVENTS", 3),
]


class ColumnRules(WriterRules, DropRules):
    """Erasures, and a worker whose work on columns may be cut off anywhere."""

    @initialize(events=WRITTEN)
    def begin(self, events: list[tuple[str, str, datetime | int, str]]) -> None:
        self.write(events, is_written=True)

    @rule(events=WRITTEN, is_written=st.booleans())
    def write(self, events: list[tuple[str, str, datetime | int, str]], is_written: bool) -> None:
        """Events that are in chunks afterwards, or not yet."""
        self.insert(
            [
                Event(str(uuid4()), user, name, instant(at), properties)
                for user, name, at, properties in events
            ]
        )
        if is_written:
            self.writer.catch_up()

    @rule(is_lazy=st.booleans())
    def maintain(self, is_lazy: bool) -> None:
        self.writer.maintain(is_lazy=is_lazy)

    @rule(part=st.sampled_from(PARTS_OF_COLUMNS), rebuilds=st.booleans())
    def kill_columns(self, part: tuple[Any, str], rebuilds: bool) -> None:
        self.kill_writer(part, rebuilds)

    @rule(user=st.sampled_from(["u1", "u2"]))
    def erase(self, user: str) -> None:
        with connected(self.url) as conn, suppress(DatabaseUnavailable):  # while it is restored
            EraseRepo(conn).erase(user)
            self.accepted = [event for event in self.accepted if event.user_id != user]

    @invariant()
    def chunks_hold_known_and_pending_users_alone(self) -> None:
        known = query(
            self.conn, "select ordinal from users union all select ordinal from columns_erasures"
        )
        assert users_in_chunks(self.conn) <= {0, *(ordinal for (ordinal,) in known)}

    @invariant()
    def all_events_are_counted(self) -> None:
        self.compare(TODAY - 60 * DAY, TODAY + DAY, ALL)

    @rule(edges=EDGES, where=FILTERS)
    def ask(self, edges: Edges, where: str) -> None:
        start, end = EventCounts(start=edges[0], end=edges[1]).query.range_at(datetime.now(UTC))
        self.compare(start, end, where)

    def compare(self, start: datetime, end: datetime, where: str) -> None:
        question = EventCounts(start=start, end=end, where=[where])
        if start < self.unknown_before(where):
            with pytest.raises(EventsDropped):
                finished(self.repo.get_event_counts(question.query))
            return
        answer = finished(self.repo.get_event_counts(question.query))
        until = min(end, answer.meta.computed_at)
        selected = [
            event
            for event in oracle.events_between(self.accepted, start, until, ())
            if where_oracle.matches(where, as_stored(event))
        ]
        assert (answer.data.events, answer.data.users) == (len(selected), oracle.users(selected))

    @rule(is_stored=st.booleans())
    def list_properties(self, is_stored: bool) -> None:
        """Counted by the question, or just before and stored."""
        query(self.conn, "delete from catalogue_counts returning 1")
        query(self.conn, "delete from catalogue_names returning 1")
        query(self.conn, "delete from catalogue_properties returning 1")
        if is_stored:
            count_if_due(self.conn)
        answer = finished(self.repo.get_properties(Properties(limit=1000).query))
        selected = oracle.events_between(
            self.accepted, self.unknown_before("a:*"), answer.meta.counted_at, ()
        )
        expected = catalogue_oracle.properties(
            (event.occurred_at, as_stored(event)) for event in selected
        )
        assert {row.property: counts_of(row) for row in answer.data.rows if row.events} == {
            str(Name(path)): counts_of(each) for path, each in expected.items()
        }

    def unknown_before(self, where: str) -> datetime:
        """The start from which on the question can be answered."""
        if not self.is_rolled_up():
            return self.horizon
        terms = where_oracle.terms(where_oracle.parse(where))
        has_properties = any(isinstance(term["property"], tuple | list) for term in terms)
        return self.columns_from if has_properties else self.horizon.min.replace(tzinfo=UTC)

    def teardown(self) -> None:
        with connected(self.url) as conn:
            RollupWriter(conn, ZONES).catch_up()
        assert query(self.conn, "select from columns_erasures") == []
        self.all_events_are_counted()
        super().teardown()


def counts_of(row: Any) -> tuple[Any, ...]:
    types = {kind: events for kind, events in row.types.items() if events}
    return row.events, row.users, row.first_seen, row.last_seen, types, row.distinct


def as_stored(event: Event) -> where_oracle.Event:
    properties = where_oracle.load(event.properties)
    return where_oracle.Event(event.user_id, event.event_name, properties)


def users_in_chunks(conn: psycopg2.extensions.connection) -> set[int]:
    """All ordinals in all chunks of all generations."""
    return {
        ordinal
        for (generation,) in query(conn, "select generation from column_state")
        for row in chunk_rows(conn, generation)
        for ordinal in read_chunk(conn, row.chunk_id, generation).user.tolist()
    }


@pytest.mark.thorough
def test_no_order_of_rules_makes_a_filtered_answer_wrong(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, value in SMALL:
        monkeypatch.setattr(module, name, value)
    defaults: Any = Consumer.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "limits", Limits(3))
    monkeypatch.setitem(defaults, "max_new_events", 5)
    machine = type("Machine", (ColumnRules,), {"cluster": cluster})
    run(machine, max_examples=20, steps=20)
