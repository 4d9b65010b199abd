"""21 years of real events, of which 13 months are kept: each day and year counts as before."""

import io
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import psycopg2
import pytest

from common.questions.active_users import ActiveUsers
from common.questions.event_counts import EventCounts
from common.questions.top_events import TopEvents
from config.database import Database, get_connection
from repo.events import EventsRepo
from repo.rollups.rollup_writer import RollupWriter
from tests import pages
from tests.live_server import running
from tests.retention import drop
from tests.servers import Cluster
from tests.source_comparison import finished
from utils.time.zones import zone

FIRST, END = date(2005, 1, 1), date(2026, 9, 1)
HORIZON = datetime(2025, 8, 1, tzinfo=UTC)
"""13 months before the last of them."""
ZONES = ["UTC", "America/New_York", "Asia/Kathmandu"]
COUNTED = [
    each
    for each in pages.examples(pages.DOCS / "questions.md")
    if each.heading in ("Event counts", "Top events", "Active users")
]
COPIED = "events (event_id, user_id, event_name, occurred_at, properties)"


def answers(url: str) -> Iterator[Any]:
    """Of every day and year, and every month's names."""
    database = Database(url, size=1, waiters=0, acquire_timeout_s=1, name="history")
    repo = EventsRepo(get_connection(database, time.monotonic() + 600))
    for tz in ZONES:
        params = {"start": FIRST, "end": END, "tz": tz}
        yield finished(repo.get_event_counts(EventCounts(**params, interval="day").query)).data
        yield finished(repo.get_event_counts(EventCounts(**params, interval="year").query)).data
        yield finished(repo.get_active_users(ActiveUsers(**params, window=90).query)).data
    for year in range(FIRST.year, END.year):
        params = {"start": date(year, 1, 1), "end": date(year + 1, 1, 1)}
        yield finished(repo.get_top_events(TopEvents(**params, limit=1000).query)).data
    database.close()


@pytest.fixture
def copy_url(cluster: Cluster, history_url: str) -> Iterator[str]:
    """The same events in a database of its own."""
    url, text = cluster.migrated_database(), io.BytesIO()
    there, here = psycopg2.connect(history_url), psycopg2.connect(url)
    columns = COPIED.removeprefix("events (").removesuffix(")")
    there.cursor().copy_expert(f"copy (select {columns} from events) to stdout", text)
    text.seek(0)
    with here:
        here.cursor().copy_expert(f"copy {COPIED} from stdin", text)
    there.close()
    here.close()
    yield url
    cluster.drop(url)


def test_every_day_counts_as_before(copy_url: str, history_url: str, redis_url: str) -> None:
    before = list(answers(history_url))
    dropped = drop(copy_url, [zone("UTC")], HORIZON)
    assert dropped == 190_843
    assert list(answers(copy_url)) == before
    with running(copy_url, redis_url) as client:
        for example in COUNTED:
            pages.check(client, example)
    conn = psycopg2.connect(copy_url)
    conn.autocommit = True
    RollupWriter(conn, [zone("UTC")]).rebuild()
    conn.close()
    assert list(answers(copy_url)) == before
