"""What is done while the disk is nearly full: the limits, and folding, which waits."""

import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from psycopg2.extensions import connection

from config.database_errors import DiskFull
from services.background import rollup_worker
from services.background.rollup_worker import fold_forever
from services.disk_space import MB, StorageLimits
from tests.events import insert
from tests.wait_until import wait_until

PLENTY = 10**18
"""More than any disk has."""


def limits(folder: Path | None, *, min_free: int = 0, max_database: int = 0) -> StorageLimits:
    return StorageLimits(folder, min_free, max_database)


def test_events_are_rejected_below_the_free_space_limit(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match=r"MB left, and no events .*\(ANALYTICS_MIN_FREE_MB\)"):
        limits(tmp_path, min_free=PLENTY).check_free()


def test_all_writes_are_rejected_below_half_of_the_limit(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="half of ANALYTICS_MIN_FREE_MB"):
        limits(tmp_path, min_free=PLENTY).check_reserve()
    free = limits(tmp_path, min_free=1).free()
    assert free
    between = limits(tmp_path, min_free=free + free // 2)
    between.check_reserve()
    with pytest.raises(DiskFull):
        between.check_free()


@pytest.mark.parametrize("min_free", [0, MB])
def test_writes_are_allowed_with_free_space_or_without_a_limit(
    tmp_path: Path, min_free: int
) -> None:
    disk_limits = limits(tmp_path, min_free=min_free)
    disk_limits.check_free()
    disk_limits.check_reserve()


def test_free_space_is_not_checked_for_external_servers() -> None:
    disk_limits = limits(None, min_free=PLENTY)
    assert disk_limits.free() is None
    disk_limits.check_free()
    disk_limits.check_reserve()


def test_events_are_rejected_at_the_database_size_limit() -> None:
    disk_limits = limits(None, max_database=2_500 * MB)
    disk_limits.check_size(2_500 * MB - 1)
    with pytest.raises(DiskFull, match=r"takes 2.5 GB, .* from 2.5 GB on"):
        disk_limits.check_size(2_500 * MB)
    limits(None).check_size(PLENTY)


class Stopped(BaseException):
    """The test is over."""


def test_folding_waits_for_free_space_and_resumes(
    database_url: str, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollup_worker, "_RETRY_EVERY_S", 0.2)
    room = {"is_there": False, "is_over": False}
    checks = []

    def check_reserve() -> None:
        checks.append(time.monotonic())
        if room["is_over"]:
            raise Stopped
        if not room["is_there"]:
            raise DiskFull("no room")

    def fold() -> None:
        with pytest.raises(Stopped):
            fold_forever(database_url, [ZoneInfo("UTC")], (), check_reserve)

    insert(conn, ("u1", "view", datetime(2025, 1, 31, tzinfo=UTC)))
    folding = threading.Thread(target=fold)
    folding.start()
    try:
        wait_until(lambda: len(checks) >= 3, timeout_s=30)
        assert slots(conn) == 0
        room["is_there"] = True
        wait_until(lambda: slots(conn) > 0, timeout_s=30)
        # While it works it looks again and again, and stops anew.
        room["is_there"] = False
        count = len(checks)
        wait_until(lambda: len(checks) >= count + 2, timeout_s=30)
        before = slots(conn)
        insert(conn, ("u2", "view", datetime(2025, 2, 1, tzinfo=UTC)))
        count = len(checks)
        wait_until(lambda: len(checks) >= count + 3, timeout_s=30)
        assert slots(conn) == before
    finally:
        room["is_over"] = True
        folding.join(30)


def slots(conn: connection) -> int:
    with conn.cursor() as cur:
        cur.execute("select count(*) from slots")
        (count,) = cur.fetchone() or (0,)
        return int(count)
