"""Compute the answer to `event_counts` from the counts of a source."""

from dataclasses import replace
from datetime import datetime

from common.questions.event_counts import Bucket, EventCounts, EventCountsData, Previous
from repo.engine.source import Count, Source
from utils.time.calendar import Interval, Range, buckets
from utils.time.ranges import previous_range


def event_counts(
    source: Source, question: EventCounts, time_range: Range, as_of: datetime
) -> EventCountsData:
    """Return the total up to `as_of`, and the series and the previous range if requested."""
    if question.interval:
        data = _with_series(source, question, question.interval, time_range, as_of)
    else:
        data = EventCountsData(*source.counts([time_range.until(as_of)]).total)
    if question.compare:
        data = replace(data, previous=_previous(source, question, time_range, as_of))
    return data


def _with_series(
    source: Source, question: EventCounts, interval: Interval, time_range: Range, as_of: datetime
) -> EventCountsData:
    """Return all buckets that have begun, including those without events."""
    all_buckets = buckets(time_range, interval, question.zone, week_start=question.week_start)
    begun_buckets = [bucket for bucket in all_buckets if bucket.start <= as_of]
    result = source.counts([bucket.until(as_of) for bucket in begun_buckets])
    series = [
        _bucket(question, bucket, count, as_of)
        for bucket, count in zip(begun_buckets, result.counts, strict=True)
    ]
    return EventCountsData(*result.total, series=series)


def _bucket(question: EventCounts, bucket: Range, count: Count, as_of: datetime) -> Bucket:
    start, end = (edge.astimezone(question.zone) for edge in bucket)
    return Bucket(start, end, *count, partial=bucket.end > as_of)


def _previous(
    source: Source, question: EventCounts, time_range: Range, as_of: datetime
) -> Previous:
    previous = previous_range(time_range, as_of, question.zone, question.week_start)
    start, end = (edge.astimezone(question.zone) for edge in previous)
    return Previous(start, end, *source.counts([previous.until(as_of)]).total)
