"""Traffic for dashboards: causes everything that a panel can show."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from services.demo_data import NAMES
from tests.api.test_keys import store_key
from tests.faults.service_process import Service

_QUESTIONS = (
    "event-counts?last={days}d&interval=day&tz={tz}",
    "event-counts?last={days}d&tz={tz}&where=plan:pro",
    "top-events?last={days}d&tz={tz}",
    "active-users?last={days}d&tz={tz}",
    "users/user_{user:06}/events?limit=20",
)
_ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata")


@contextmanager
def background_traffic(service: Service, pause_s: float) -> Iterator[None]:
    """Send requests with several keys until the end of the block, with pauses in between."""
    stop = threading.Event()
    shop, report, collector = (
        store_key(service.conn, f"ask_{name:-<40}", scope, name=name)
        for name, scope in (("shop", "read"), ("report", "read"), ("collector", "write"))
    )
    callers = (
        (_ask, shop),
        (_ask, report),
        (_send, collector),
        (_send_bad_requests, service.headers),
    )
    workers = [
        threading.Thread(target=work, args=(service.base, headers, stop, pause_s))
        for work, headers in callers
    ]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def _ask(base: str, headers: dict[str, str], stop: threading.Event, pause_s: float) -> None:
    chance = random.Random(1)
    with httpx.Client(base_url=base, headers=headers, timeout=30) as client:
        while not stop.is_set():
            path = chance.choice(_QUESTIONS).format(
                days=chance.randint(1, 60), tz=chance.choice(_ZONES), user=chance.randint(1, 500)
            )
            fresh = chance.random() < 0.1
            client.get(f"/analytics/{path}", headers={"Cache-Control": "no-cache"} if fresh else {})
            time.sleep(pause_s * chance.random())


def _send(base: str, headers: dict[str, str], stop: threading.Event, pause_s: float) -> None:
    chance = random.Random(2)
    with httpx.Client(base_url=base, headers=headers, timeout=30) as client:
        while not stop.is_set():
            batch = [_event(chance) for _ in range(chance.randint(1, 9))]
            client.post("/events", json=batch).raise_for_status()
            client.post("/events", json=batch[:2]).raise_for_status()
            time.sleep(pause_s)


def _event(chance: random.Random) -> dict[str, Any]:
    occurred_at = datetime.now(UTC) - timedelta(seconds=chance.expovariate(1 / 3))
    return {
        "event_id": str(uuid4()),
        "user_id": f"user_{int(chance.paretovariate(0.6)) % 4000:06}",
        "event_name": NAMES[min(int(chance.expovariate(0.3)), len(NAMES) - 1)],
        "occurred_at": occurred_at.isoformat(),
    }


def _send_bad_requests(
    base: str, headers: dict[str, str], stop: threading.Event, pause_s: float
) -> None:
    """Send requests with unknown paths, invalid keys and invalid events."""
    with httpx.Client(base_url=base, timeout=30) as client:
        while not stop.is_set():
            client.get("/analytics/event-counts?last=never", headers=headers)
            client.get("/analytics/event-counts", headers={"Authorization": "Bearer ask_none"})
            client.get("/analytics/nothing", headers=headers)
            client.post("/events", json=[{"event_name": ""}], headers=headers)
            client.get("/healthz")
            time.sleep(10 * pause_s)
