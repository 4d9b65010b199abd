"""top_events from the events themselves."""

from common.answers import Other, TopEvent, TopEventsData
from common.questions import TopEvents
from config.database import Cursor
from repo.raw.parameters import parameters
from repo.statements import statements
from utils.timebuckets import Range

SQL = statements("top_events")


def top_events(cur: Cursor, question: TopEvents, asked: Range) -> TopEventsData:
    cur.execute(SQL["top_events"], parameters(cur, question, asked))
    *names, (_, events, users) = cur.fetchall()
    top, rest = names[: question.limit], names[question.limit :]
    rows = [TopEvent(name, count, by, _share(count, events)) for name, count, by in top]
    counted = sum(count for _, count, _ in rest)
    by = _other_users(cur, question, asked, [row.event_name for row in rows]) if rest else 0
    return TopEventsData(
        events, users, rows, Other(len(rest), counted, by, _share(counted, events))
    )


def _other_users(cur: Cursor, question: TopEvents, asked: Range, top: list[str]) -> int:
    cur.execute(SQL["top_events_other"], parameters(cur, question, asked, top=top))
    (users,) = cur.fetchone() or (0,)
    return int(users)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
