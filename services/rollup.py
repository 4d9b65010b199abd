"""Folding for as long as the service runs."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import NoReturn
from zoneinfo import ZoneInfo

from common.metric_values import shared_folder
from common.metrics import (
    ACTIVE_USERS,
    EVENTS,
    FAILED_DAYS,
    FOLD_SECONDS,
    FOLDED_EVENTS,
    HORIZON,
    REFUSED,
    REJECTED_ROWS,
    SEALED_SPANS,
    TAIL_EVENTS,
    TAIL_SECONDS,
)
from config.database import connect
from config.failures import DatabaseError, DiskFull
from repo.retain import RetainRepo
from repo.rollups.folder import Folder, Step
from repo.rollups.telling import OTHER, PERIODS

log = logging.getLogger("analytics.rollup")

_LOOK_EVERY_S = 0.2
_FOLD_AFTER_S = 0.5
"""Events wait so long: the more are folded at once, the less each costs."""
_FOLD_FROM = 5_000
"""So many do not wait: until they are folded every question reads them."""
_SEAL_EVERY_S = 30.0
_TRY_AGAIN_S = 1.0
_COUNT_EVERY_S = 5.0
"""Today changes with each event: its numbers need not."""
_COUNT_FOR_S = 0.5
_TELL_EVERY_S = 3.0
_BEAT_EVERY_S = 1.0
"""So old may answers of a replica be while nothing happens."""
_MOST = 1_000_000
"""Events of the tail that are counted."""


def fold_forever(
    database_url: str,
    zones: Sequence[ZoneInfo],
    names: Sequence[str] = (),
    check_reserve: Callable[[], None] = lambda: None,
) -> NoReturn:
    """Keep the rollups up with the events, whatever happens to PostgreSQL.

    `names` are those whose events are counted by themselves in the metrics. `check_reserve` raises
    DiskFull where nothing should be written: questions read what waits meanwhile.
    """
    pace = _Pace()
    for name in (*names, OTHER):
        EVENTS.labels(name)  # from 0 on
    while True:
        try:
            _fold(database_url, zones, names, pace, check_reserve)
        except DatabaseError as exc:
            log.warning("folding waits for PostgreSQL", extra={"failure": str(exc)})
        except Exception:  # questions stay right without it: it must come back, not stop
            log.exception("a fold failed")
        _tell_active({})
        time.sleep(_TRY_AGAIN_S)


def _fold(
    database_url: str,
    zones: Sequence[ZoneInfo],
    names: Sequence[str],
    pace: "_Pace",
    check_reserve: Callable[[], None],
) -> NoReturn:
    _wait_for_room(check_reserve)
    with closing(connect(database_url, "analytics-rollup")) as conn:
        conn.autocommit = True
        folder = Folder(conn, zones)
        folder.forget_undeclared()
        retention = RetainRepo(conn)
        aside = [
            _Aside("count the numbers of days", _COUNT_EVERY_S, lambda: _count(folder)),
            _Aside("tell replicas the time", _BEAT_EVERY_S, folder.beat),
            _Aside("count what waits", _COUNT_EVERY_S, lambda: _tell_tail(folder)),
            _Aside("tell what is refused", _TELL_EVERY_S, lambda: _tell_refused(retention)),
            _Aside("tell of adopted tables", _COUNT_EVERY_S, lambda: _tell_rejected(folder)),
        ]
        if shared_folder():  # else it is left to a folder whose metrics somebody sees
            tell = partial(_tell_business, folder, names)
            aside.append(_Aside("tell of the business", _TELL_EVERY_S, tell))
        while True:
            _wait_for_room(check_reserve)
            if pace.is_time(folder.pending(_FOLD_FROM)):
                pace.stepped(_step(folder))
            for work in aside:
                work.look()
            time.sleep(pace.rest_s)


def _wait_for_room(check_reserve: Callable[[], None]) -> None:
    """Logged once: the log may be on the same disk."""
    is_logged = False
    while True:
        try:
            return check_reserve()
        except DiskFull as exc:
            if not is_logged:
                log.error("folding waits for room on the disk", extra={"failure": str(exc)})
            is_logged = True
        _tell_active({})
        time.sleep(_TRY_AGAIN_S)


def _step(folder: Folder) -> Step:
    with FOLD_SECONDS.time():
        step = folder.step()
    FOLDED_EVENTS.inc(step.events)
    SEALED_SPANS.inc(step.spans)
    return step


def _count(folder: Folder) -> None:
    """For a while: what waits longer is counted later, since folding must go on."""
    end = time.monotonic() + _COUNT_FOR_S
    while folder.count_numbers() and time.monotonic() < end:
        pass
    FAILED_DAYS.set(len(folder.failed_days))


def _tell_tail(folder: Folder) -> None:
    TAIL_EVENTS.set(folder.pending(_MOST))


def _tell_business(folder: Folder, names: Sequence[str]) -> None:
    for name, events in folder.take_untold(names).items():
        EVENTS.labels(name).inc(events)
    _tell_active(folder.active_users())


def _tell_active(users: Mapping[str, int]) -> None:
    """What nobody knows is not shown: an old number would look like a new one."""
    for period in PERIODS:
        ACTIVE_USERS.labels(period).set(users.get(period, math.nan))


def _tell_rejected(folder: Folder) -> None:
    REJECTED_ROWS.set(folder.rejected_rows())


def _tell_refused(retention: RetainRepo) -> None:
    for reason, events in retention.take_refused().items():
        REFUSED.labels(reason).inc(events)
    horizon = retention.get().horizon
    HORIZON.set(horizon.timestamp() if horizon else 0)


class _Aside:
    """Work that is done now and then, and stops nothing if it fails."""

    def __init__(self, name: str, every_s: float, work: Callable[[], None]) -> None:
        self._name = name
        self._every_s = every_s
        self._work = work
        self._done_at = time.monotonic()

    def look(self) -> None:
        if time.monotonic() - self._done_at < self._every_s:
            return
        self._done_at = time.monotonic()
        try:
            self._work()
        except DatabaseError:
            raise
        except Exception:
            log.exception("the folder could not %s", self._name)


class _Pace:
    """When to fold: soon after events come in, and now and then for what is over."""

    rest_s = 0.0

    def __init__(self) -> None:
        self._stepped_at = -_SEAL_EVERY_S
        self._waiting_since: float | None = None
        """Since when there have been events that are not folded, all this time."""

    def is_time(self, pending: int) -> bool:
        now = time.monotonic()
        since = self._waiting_since = (self._waiting_since or now) if pending else None
        if pending < _FOLD_FROM:
            TAIL_EVENTS.set(pending)
        TAIL_SECONDS.set(now - since if since else 0)
        self.rest_s = _LOOK_EVERY_S
        waited = since is not None and now - since >= _FOLD_AFTER_S
        return pending >= _FOLD_FROM or waited or now - self._stepped_at >= _SEAL_EVERY_S

    def stepped(self, step: Step) -> None:
        if step.is_more:
            self._stepped_at, self.rest_s = -_SEAL_EVERY_S, 0
        else:
            self._stepped_at, self._waiting_since = time.monotonic(), None
