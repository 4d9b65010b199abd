"""top_events, made of counts."""

from datetime import datetime

from common.answers import Other, TopEvent, TopEventsData
from common.questions import TopEvents
from repo.sources import Source
from utils.timebuckets import Range


def top_events(source: Source, question: TopEvents, asked: Range, as_of: datetime) -> TopEventsData:
    top = source.top(asked.until(as_of), question.limit)
    events, users = top.total
    rows = [TopEvent(name, *count, _share(count.events, events)) for name, count in top.rows]
    other = Other(top.other_names, *top.other, _share(top.other.events, events))
    return TopEventsData(events, users, rows, other)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
