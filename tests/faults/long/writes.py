"""Sends events of the current time until they are acknowledged, and records them in the model."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from uuid import uuid4

import msgspec

from tests.faults.http_load import Client
from tests.faults.long.model import Model, Victim
from tests.faults.long.queries import NAMES, Outcome

_USERS = 50  # in a batch; each is sent once
_EACH = 4
_NDJSON = {"Content-Type": "application/x-ndjson"}
_numbers = count()

Part = tuple[str, str, list[str]]
"""A user, an event name and the ids of the events."""


def batch() -> list[Part]:
    return [
        (f"live{n}", NAMES[n % len(NAMES)], [str(uuid4()) for _ in range(_EACH)])
        for n in (next(_numbers) for _ in range(_USERS))
    ]


def victims(number: int) -> list[Part]:
    return [(f"victim{n}", "victim", [str(uuid4()) for _ in range(60)]) for n in range(number)]


def _body(parts: list[Part]) -> bytes:
    now = datetime.now(UTC)
    return b"\n".join(_lines(parts, now))


def _lines(parts: list[Part], now: datetime) -> Iterator[bytes]:
    for user, name, ids in parts:
        for event_id in ids:
            event = {"event_id": event_id, "user_id": user, "event_name": name, "occurred_at": now}
            yield msgspec.json.encode(event)


async def send(client: Client, model: Model, parts: list[Part]) -> list[Outcome]:
    """Send the same bytes repeatedly, until they are acknowledged."""
    for part in parts:
        model.send(*part)
    body, outcomes = _body(parts), list[Outcome]()
    while not outcomes or outcomes[-1].status != 200:
        reply = await client.ask("POST", "/events", body, _NDJSON)
        outcomes.append(Outcome.of("send", reply, _error_of(reply.status, reply.headers)))
        if reply.status != 200:
            await asyncio.sleep(0.2)
    for part in parts:
        model.acknowledge(*part)
    return outcomes


def _error_of(status: int, headers: dict[str, str]) -> str | None:
    if status in (503, 504):
        return None if "retry-after" in headers else "no Retry-After"
    return None if status in (0, 200) else f"status {status}"


async def send_victims(client: Client, model: Model, number: int) -> list[Outcome]:
    parts = victims(number)
    model.victims += [Victim(user, len(ids)) for user, _, ids in parts]
    return await send(client, model, parts)
