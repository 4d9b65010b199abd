"""Compute the answer to `top_events` from the counts of a source."""

from datetime import datetime

from common.questions.top_events import Other, TopEvent, TopEvents, TopEventsData
from repo.engine.source import Source
from utils.time.calendar import Range


def top_events(
    source: Source, question: TopEvents, time_range: Range, as_of: datetime
) -> TopEventsData:
    """Return the most frequent names of the range up to `as_of`, and the totals of the others."""
    top = source.top(time_range.until(as_of), question.limit)
    events, users = top.total
    rows = [TopEvent(name, *count, _share(count.events, events)) for name, count in top.rows]
    other = Other(top.other_names, *top.other, _share(top.other.events, events))
    return TopEventsData(events, users, rows, other)


def _share(part: int, total: int) -> float:
    return part / total if total else 0.0
