"""The watermark, as one snapshot sees it."""

from datetime import UTC, datetime, timedelta

from psycopg2.extensions import connection

from repo.engine.watermark import Watermark, read_horizon, read_user_count, read_watermark
from tests.events import fold, insert
from tests.source_comparison import Asker

START = datetime(2025, 3, 1, 12, 7, tzinfo=UTC)


def watermark(asker: Asker) -> Watermark:
    with asker.snapshot() as cur:
        mark = read_watermark(cur)
    assert mark is not None
    return mark


def test_there_is_none_before_the_first_fold(asker: Asker) -> None:
    with asker.snapshot() as cur:
        assert read_watermark(cur) is None


def test_it_counts_names_users_and_the_tail(
    asker: Asker, conn: connection, database_url: str
) -> None:
    insert(conn, ("a", "view", START), ("b", "view", START), ("b", "buy", START))
    fold(database_url)
    mark = watermark(asker)
    assert (mark.name_count, mark.tail_events, mark.has_tail) == (2, 0, False)
    insert(conn, ("c", "view", START))
    mark = watermark(asker)
    assert (mark.tail_events, mark.has_tail, mark.has_long_tail) == (1, True, False)
    with asker.snapshot() as cur:
        assert read_user_count(cur) == 2


def test_the_folded_range_begins_32_days_before_the_first_slot(
    asker: Asker, conn: connection, database_url: str
) -> None:
    insert(conn, ("a", "view", START))
    fold(database_url)
    mark = watermark(asker)
    assert mark.folded_range.start == datetime(2025, 1, 28, 12, tzinfo=UTC)
    assert mark.folded_range.end == mark.tail["folded_at"]
    assert datetime.now(UTC) - mark.folded_range.end < timedelta(hours=1)


def test_late_events_change_the_version_of_their_months(
    asker: Asker, conn: connection, database_url: str
) -> None:
    for user in ("a", "b"):
        insert(conn, (user, "view", START))
        fold(database_url)
    march, april = (2025 * 12 + month - 1 for month in (3, 4))
    with asker.snapshot() as cur:
        for months, is_changed in (((march, march), True), ((april, april), False)):
            mark = read_watermark(cur, months)
            assert mark is not None
            assert (mark.changed_version > 0) is is_changed


def test_nothing_was_dropped(asker: Asker, conn: connection, database_url: str) -> None:
    insert(conn, ("a", "view", START))
    fold(database_url)
    with asker.snapshot() as cur:
        assert read_horizon(cur) is None
    assert watermark(asker).horizon is None
