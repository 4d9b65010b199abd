"""Events, folds, restarts, rebuilds and kills in any order: answers stay those of the events."""

from collections import Counter
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from psycopg2.extensions import connection

from common.base_questions import Counting
from common.questions import ActiveUsers, EventCounts, TopEvents
from config.database_errors import DatabaseUnavailable
from repo.rollups import rollup_writer as writer_module
from repo.rollups.claim import BatchClaimer
from repo.rollups.rollup_writer import RollupWriter
from tests.events import insert
from tests.example_counts import examples
from tests.servers import Cluster
from tests.source_comparison import connected, limited_hour_spans, open_asker
from utils.time.zones import zone

ZONES = [zone("UTC"), zone("America/New_York")]
QUESTIONS: list[Counting] = [
    EventCounts(last="500d"),
    EventCounts(last="4d", interval="hour", tz="America/New_York", event=("a",)),
    EventCounts(last="500d", interval="month", tz="Asia/Kathmandu"),
    TopEvents(last="400d", tz="America/New_York"),
    ActiveUsers(last="40d", tz="America/New_York"),
]
SECONDS_AGO = st.one_of(
    st.integers(-2, 20),
    st.integers(0, 7200),
    st.integers(0, 100).map(lambda hours: hours * 3600),
    st.integers(0, 480).map(lambda days: days * 86_400),
)
EVENTS = st.lists(
    st.tuples(st.sampled_from(["", "u1", "u2", "u3"]), st.sampled_from("abc"), SECONDS_AGO),
    min_size=1,
    max_size=6,
)


# What is in slots, less what is not told yet; before questions ask any, what is in the first.
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
    """One way or the other, however many there are."""

    def __init__(self, limit: int, *, is_dense: bool) -> None:
        super().__init__(limit)
        self._dense = is_dense

    def _is_dense(self, *_: object) -> bool:
        return self._dense


class Folding(RuleBasedStateMachine):
    """One folder at a time, as in production; it may be killed before any part of its work."""

    cluster: Cluster

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        url = self.cluster.migrated_database()
        self.stack.callback(self.cluster.drop, url)
        self.url = url
        self.conn = self.stack.enter_context(connected(url))
        self.asker = self.stack.enter_context(open_asker(url))
        self.counts: Counter[str] = Counter()
        self.restarted(2)

    def teardown(self) -> None:
        self.stack.close()

    @rule(events=EVENTS)
    def written(self, events: list[tuple[str, str, int]]) -> None:
        now = datetime.now(UTC)
        insert(self.conn, *((u, name, now - timedelta(seconds=ago)) for u, name, ago in events))

    @rule()
    def stepped(self) -> None:
        self.folder.step()

    @rule()
    def caught_up(self) -> None:
        self.folder.catch_up()

    @rule(most=st.sampled_from([1, 2, 500_000]), is_dense=st.booleans())
    def restarted(self, most: int, is_dense: bool = False) -> None:
        """Sweeps read all events in the order of time, or what is left of those that wait."""
        self.folding = self.stack.enter_context(connected(self.url))
        self.folder = RollupWriter(self.folding, ZONES, most)
        self.folder._claimer = FixedStrategy(most, is_dense=is_dense)

    @rule(part=st.sampled_from(["fold", "seal", "store", "_switch"]), does_begin=st.booleans())
    def killed(self, part: str, does_begin: bool) -> None:
        """In a transaction; the steps before it are committed."""
        with pytest.MonkeyPatch.context() as patch, suppress(DatabaseUnavailable, psycopg2.Error):
            patch.setattr(writer_module, part, self._ending(getattr(writer_module, part)))
            if does_begin:
                self.folder.rebuild()
            self.folder.catch_up()
        self.restarted(500_000)

    @rule()
    def begun(self) -> None:
        """A rebuild whose steps are among the others, and events come in between."""
        self.folder._begin()

    @rule()
    def rebuilt(self) -> None:
        self.folder.rebuild()

    @rule()
    def published(self) -> None:
        self.counts.update(self.folder.take_outbox(["a", "b"]))

    @invariant()
    def each_event_is_published_once(self) -> None:
        """In the metrics: what is in slots was told or is about to be, and nothing else."""
        assert self.in_slots() == +self.counts

    def in_slots(self) -> dict[str, int]:
        """What must have been told."""
        with self.conn.cursor() as cur:
            cur.execute(UNPUBLISHED)
            return dict(cur.fetchall())

    @invariant()
    def answers_are_those_of_the_events(self) -> None:
        for question in QUESTIONS:
            self.asker.compare(question)

    def _ending(self, part: Any) -> Any:
        def ending(*arguments: Any) -> Any:
            end(self.conn, self.folding)
            return part(*arguments)

        return ending


def end(conn: connection, victim: connection) -> None:
    with conn.cursor() as cur:
        cur.execute("select pg_terminate_backend(%s, 5000)", (victim.info.backend_pid,))


@pytest.mark.thorough
def test_no_order_of_what_happens_changes_an_answer(cluster: Cluster) -> None:
    machine = type("Folding", (Folding,), {"cluster": cluster})
    run(machine, max_count=20, steps=15)


def run(machine: type[RuleBasedStateMachine], *, max_count: int, steps: int) -> None:
    """So many examples; what is found is told at once, since to shrink it takes minutes."""
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    shorter = settings(max_examples=examples(max_count), stateful_step_count=steps, phases=phases)
    with limited_hour_spans(5):
        run_state_machine_as_test(machine, settings=shorter)
