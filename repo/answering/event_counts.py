"""event_counts, made of counts."""

from dataclasses import replace
from datetime import datetime

from common.answers import Bucket, EventCountsData, Previous
from common.questions import EventCounts
from repo.sources import Count, Source
from utils.periods import previous_range
from utils.timebuckets import Interval, Range, buckets


def event_counts(
    source: Source, question: EventCounts, asked: Range, as_of: datetime
) -> EventCountsData:
    if question.interval:
        data = _with_series(source, question, question.interval, asked, as_of)
    else:
        data = EventCountsData(*source.counts([asked.until(as_of)]).total)
    if question.compare:
        data = replace(data, previous=_previous(source, question, asked, as_of))
    return data


def _with_series(
    source: Source, question: EventCounts, interval: Interval, asked: Range, as_of: datetime
) -> EventCountsData:
    """Every bucket that has begun; those without events count zero."""
    cut = buckets(asked, interval, question.zone, week_start=question.week_start)
    begun = [bucket for bucket in cut if bucket.start <= as_of]
    counted = source.counts([bucket.until(as_of) for bucket in begun])
    series = [
        _bucket(question, bucket, count, as_of)
        for bucket, count in zip(begun, counted.each, strict=True)
    ]
    return EventCountsData(*counted.total, series=series)


def _bucket(question: EventCounts, bucket: Range, count: Count, as_of: datetime) -> Bucket:
    start, end = (edge.astimezone(question.zone) for edge in bucket)
    return Bucket(start, end, *count, partial=bucket.end > as_of)


def _previous(source: Source, question: EventCounts, asked: Range, as_of: datetime) -> Previous:
    before = previous_range(asked, as_of, question.zone, question.week_start)
    start, end = (edge.astimezone(question.zone) for edge in before)
    return Previous(start, end, *source.counts([before.until(as_of)]).total)
