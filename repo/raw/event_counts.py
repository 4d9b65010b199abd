"""event_counts from the events themselves."""

from dataclasses import replace

from common.answers import Bucket, EventCountsData, Previous
from common.questions import EventCounts
from config.database import Cursor
from repo.raw.parameters import parameters
from repo.statements import statements
from utils.periods import previous_range
from utils.timebuckets import Interval, Range, buckets

SQL = statements("event_counts")


def event_counts(cur: Cursor, question: EventCounts, asked: Range) -> EventCountsData:
    data = EventCountsData(*_counts(cur, question, asked))
    if question.interval:
        data = replace(data, series=_series(cur, question, asked, question.interval))
    if question.compare:
        data = replace(data, previous=_previous(cur, question, asked))
    return data


def _counts(cur: Cursor, question: EventCounts, asked: Range) -> tuple[int, int]:
    cur.execute(SQL["event_counts"], parameters(cur, question, asked))
    events, users = cur.fetchone() or (0, 0)
    return events, users


def _series(cur: Cursor, question: EventCounts, asked: Range, interval: Interval) -> list[Bucket]:
    """Every bucket that has begun; those without events count zero."""
    cut = buckets(asked, interval, question.zone, week_start=question.week_start)
    begun = [bucket for bucket in cut if bucket.start <= cur.as_of]
    counts = _bucket_counts(cur, question, begun) if begun else {}
    return [
        Bucket(
            bucket.start.astimezone(question.zone),
            bucket.end.astimezone(question.zone),
            *counts.get(index, (0, 0)),
            partial=bucket.end > cur.as_of,
        )
        for index, bucket in enumerate(begun)
    ]


def _bucket_counts(
    cur: Cursor, question: EventCounts, begun: list[Range]
) -> dict[int, tuple[int, int]]:
    """Events and users by the index of the bucket."""
    whole = Range(begun[0].start, begun[-1].end)
    starts = [bucket.start for bucket in begun]
    cur.execute(SQL["event_counts_series"], parameters(cur, question, whole, starts=starts))
    return {index: (events, users) for index, events, users in cur}


def _previous(cur: Cursor, question: EventCounts, asked: Range) -> Previous:
    before = previous_range(asked, cur.as_of, question.zone, question.week_start)
    start, end = (edge.astimezone(question.zone) for edge in before)
    return Previous(start, end, *_counts(cur, question, before))
