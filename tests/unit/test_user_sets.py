"""Sets of users of rollups give the answers that their events give."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from common.questions.lifecycle import Lifecycle
from common.questions.retention import Retention
from common.questions.stickiness import Stickiness
from repo.engine.cardinality import Aggregates, CardinalityCache, PartialAggregate, RangeAggregate
from repo.engine.plan import Aggregation
from repo.engine.user_sets import UserSets, user_sets_of
from repo.queries.base import UserSetReduction
from repo.queries.lifecycle import LifecycleReduction
from repo.queries.retention import RetentionReduction
from repo.queries.stickiness import StickinessReduction
from tests.example_counts import examples
from tests.reductions import collected
from tests.source_comparison import no_checkpoint
from tests.unit.test_cohorts import NAMES, record, worlds

ORDINALS = {"a": 1, "b": 7, "c": 2**31}
"""The ordinals of users in rollups; the last one is temporary."""
SELECTIONS = ["*", "start,both", "back,both", "start"]
WorldEvent = tuple[str, str, datetime]


def sets_of(reduction: UserSetReduction[Any, Any], events: Sequence[WorldEvent]) -> list[UserSets]:
    return user_sets_of([aggregates_of(each, events) for each in reduction.user_sets()])


def aggregates_of(aggregation: Aggregation, events: Sequence[WorldEvent]) -> Aggregates:
    partials = [
        PartialAggregate(
            uncached=[
                BitMap([ORDINALS[user]])
                for user, name, at in events
                if user and start <= at < end
                if aggregation.event_names is None or name in aggregation.event_names
            ]
        )
        for start, end in aggregation.ranges
    ]
    return Aggregates([RangeAggregate({}, each) for each in partials], CardinalityCache())


def check(reduction: UserSetReduction[Any, Any], chunks: Sequence[Sequence[WorldEvent]]) -> None:
    events = [event for chunk in chunks for event in chunk]
    names = reduction.query.event_names
    records = [
        record(number, *event)
        for number, event in enumerate(events)
        if names is None or event[1] in names
    ]
    from_events = collected(reduction, [records], NAMES)
    from_sets = reduction.collector()
    reduction.add_user_sets(from_sets, sets_of(reduction, events))
    expected = reduction.data(from_events, no_checkpoint)
    assert reduction.data(from_sets, no_checkpoint) == expected


event_names = st.sampled_from([[], ["start"], ["start", "back"]])


@settings(max_examples=examples(600), deadline=None)
@given(world=worlds(), names=event_names, selections=st.tuples(*[st.sampled_from(SELECTIONS)] * 2))
def test_retention(world: Any, names: list[str], selections: tuple[str, str]) -> None:
    chunks, more = world
    now = more.pop("now")
    more |= {"clock": "calendar", "event": names, "from": selections[0], "to": selections[1]}
    query = Retention(**more).query
    check(RetentionReduction(query, query.range_at(now), now), chunks)


@settings(max_examples=examples(300), deadline=None)
@given(world=worlds(), names=event_names)
def test_lifecycle_and_stickiness(world: Any, names: list[str]) -> None:
    chunks, more = world
    now = more.pop("now")
    shared = {name: more[name] for name in ("start", "end", "tz", "week_start", "interval")}
    lifecycle = Lifecycle(**shared, event=names).query
    check(LifecycleReduction(lifecycle, lifecycle.range_at(now), now), chunks)
    stickiness = Stickiness(**shared, event=names).query
    check(StickinessReduction(stickiness, stickiness.range_at(now), now), chunks)


def test_what_sets_of_users_do_not_tell_needs_columns() -> None:
    march = {"start": "2025-03-01", "end": "2025-04-01"}

    def has_sets(question: Any, reduction_type: Any) -> bool:
        query = question.query
        now = query.period.end
        return bool(reduction_type(query, query.range_at(now), now).user_sets())

    assert has_sets(Retention(**march), RetentionReduction)
    for more in (
        {"where": ["plan:pro"]},
        {"did": ["view"]},
        {"by": "plan"},
        {"clock": "24h"},
        {"from": "view plan:pro"},
        {"to": "view plan:pro"},
    ):
        assert not has_sets(Retention(**march, **more), RetentionReduction)
    assert has_sets(Lifecycle(**march, event=["view"]), LifecycleReduction)
    assert not has_sets(Lifecycle(**march, where=["plan:pro"]), LifecycleReduction)
    assert has_sets(Stickiness(**march), StickinessReduction)
    assert not has_sets(Stickiness(**march, min=2), StickinessReduction)
