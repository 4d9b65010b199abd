"""The queries of the long run, whose answers are compared with the model, cached or not."""

import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.faults.http_load import Client, Reply
from tests.faults.long.model import Bounds, Model

Check = Callable[[dict[str, Any], float, float], str | None]
"""Returns what is wrong with an answer, given when it was requested and its `computed_at`."""

NAMES = tuple(f"name{n}" for n in range(8))


@dataclass(frozen=True)
class Question:
    kind: str
    path: str
    check: Check


@dataclass(frozen=True)
class Outcome:
    """One response, or the failure in its place."""

    kind: str
    status: int
    seconds: float
    at: float
    """When it arrived, by the clock."""
    is_stale: bool
    error: str | None

    @classmethod
    def of(cls, kind: str, reply: Reply, error: str | None) -> "Outcome":
        is_stale = reply.headers.get("x-cache") == "stale"
        return cls(kind, reply.status, reply.seconds, time.time(), is_stale, error)


def questions(model: Model, fixed_answers: dict[str, Any], span: str) -> Iterator[Question]:
    """Yield queries of all kinds in turn, without end. `fixed_answers` must never change."""
    fixed = itertools.cycle([_fixed(path, data) for path, data in fixed_answers.items()])
    for turn in itertools.count():
        yield _counted(model, f"/analytics/event-counts?{span}")
        yield next(fixed)
        yield _named(model, NAMES[turn % len(NAMES)], span)
        yield from _history(model)
        yield _active(model, span)
        yield next(fixed)
        yield _top(model, f"/analytics/top-events?{span}")


def _fixed(path: str, data: Any) -> Question:
    def check(answer: dict[str, Any], *_: float) -> str | None:
        return None if answer["data"] == data else f"{answer['data']} is not {data}"

    return Question("before", path, check)


def _out_of_bounds(unit: str, value: int, bounds: Bounds) -> str | None:
    if bounds.contain(value):
        return None
    return f"{value} {unit} are not from {bounds.minimum} to {bounds.maximum}"


def _counted(model: Model, path: str) -> Question:
    def check(answer: dict[str, Any], asked_at: float, computed_at: float) -> str | None:
        data = answer["data"]
        return _out_of_bounds(
            "events", data["events"], model.events(asked_at, computed_at)
        ) or _out_of_bounds("users", data["users"], model.users(asked_at, computed_at))

    return Question("counts", path, check)


def _top(model: Model, path: str) -> Question:
    def check(answer: dict[str, Any], asked_at: float, computed_at: float) -> str | None:
        data = answer["data"]
        rows = {row["event_name"]: row["events"] for row in data["rows"]}
        errors = [_out_of_bounds("events", data["events"], model.events(asked_at, computed_at))]
        errors += [_out_of_bounds(n, rows.get(n, 0), model.named(n, computed_at)) for n in NAMES]
        return next((each for each in errors if each), None)

    return Question("top", path, check)


def _named(model: Model, name: str, span: str) -> Question:
    def check(answer: dict[str, Any], _: float, computed_at: float) -> str | None:
        return _out_of_bounds(name, answer["data"]["events"], model.named(name, computed_at))

    return Question("named", f"/analytics/event-counts?{span}&event={name}", check)


def _active(model: Model, span: str) -> Question:
    def check(answer: dict[str, Any], asked_at: float, computed_at: float) -> str | None:
        last = answer["data"]["series"][-1]
        return _out_of_bounds("active users", last["wau"], model.users(asked_at, computed_at))

    return Question("active", f"/analytics/active-users?{span}", check)


def _history(model: Model) -> Iterator[Question]:
    """Yield the history of an existing or an erased user."""
    if not model.users_sent:
        return
    user = random.choice((random.choice(model.users_sent), model.victims[0].user))

    def check(answer: dict[str, Any], asked_at: float, computed_at: float) -> str | None:
        event_ids = {event["event_id"] for event in answer["data"]}
        is_right = model.is_history(user, event_ids, asked_at, computed_at)
        return None if is_right else f"{len(event_ids)} events of {user} are not those sent"

    yield Question("history", f"/analytics/users/{user}/events?limit=100", check)


async def ask(client: Client, question: Question, *, fresh: bool) -> Outcome:
    asked_at = time.time()
    reply = await client.get(question.path, {"Cache-Control": "no-cache"} if fresh else {})
    error = _error_of(question, reply, asked_at)
    kind = question.kind if fresh else f"{question.kind} {reply.headers.get('x-cache', '')}"
    return Outcome.of(kind, reply, error)


def _error_of(question: Question, reply: Reply, asked_at: float) -> str | None:
    if reply.status == 200:
        answer = json.loads(reply.body)
        computed_at = datetime.fromisoformat(answer["meta"]["computed_at"]).timestamp()
        return question.check(answer, asked_at, computed_at)
    if reply.status in (503, 504):
        return None if "retry-after" in reply.headers else "no Retry-After"
    return None if not reply.status else f"status {reply.status}: {reply.body[:200]!r}"
