"""The service without HTTP and cache: a method of EventsRepo in a thread of the pool.

What it reads is evaluated in a thread of its own, as the service does.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import msgspec
from pydantic import SecretStr

from bench.cases import Case, example_user
from bench.serving import TIMEOUT_S, zones
from bench.systems import Answer, from_service
from common.questions.active_users import ActiveUsers
from common.questions.answer import MoreToRead, Reading
from common.questions.event_counts import EventCounts
from common.questions.top_events import TopEvents
from common.questions.user_events import UserEvents
from config.database import get_connection
from config.settings import Settings
from main import create_app, lifespan
from repo.events import EventsRepo
from services.answering.evaluator import Evaluator
from services.container import Resources

RepoCall = Callable[[EventsRepo], Any]

_METHODS = {name: name for name in ("top_events", "active_users", "user_events")}


class InProcess:
    """Answers a question object with an answer object."""

    name = "service in process"

    def __init__(self, runner: asyncio.Runner, resources: Resources, evaluator: Evaluator) -> None:
        self._runner = runner
        self._resources = resources
        self._evaluator = evaluator

    def query_text(self, question: str, case: Case) -> str | None:
        return f"EventsRepo.get_{_METHODS.get(question, 'event_counts')}"

    def prepare(self, question: str, case: Case) -> Callable[[], Any]:
        return self.caller(_repo_call(question, case))

    def caller(self, call: RepoCall) -> Callable[[], Any]:
        """A function that returns the answer of a method of the repository."""
        return lambda: self._runner.run(self._answer(call))

    def read(self, question: str, answer: Any) -> Answer:
        return from_service(question, msgspec.json.decode(msgspec.json.encode(answer.data)))

    async def _answer(self, call: RepoCall) -> Any:
        deadline = time.monotonic() + TIMEOUT_S
        connection = get_connection(self._resources.database, deadline)
        repo = EventsRepo(connection)
        result = await connection.run(lambda: call(repo))
        while isinstance(result, Reading):
            result = await self._evaluator.run(result.evaluate, "bench", deadline)
            if isinstance(result, MoreToRead):
                result = await connection.run(partial(repo.read_more, result))
        return result


@contextmanager
def in_process(database_url: str, redis_url: str) -> Iterator[InProcess]:
    settings: dict[str, Any] = {
        "DATABASE_URL": SecretStr(database_url),
        "REDIS_URL": SecretStr(redis_url),
        "request_timeout_s": TIMEOUT_S,
        **zones("time_zones"),
    }
    app = create_app(Settings(**settings))
    with asyncio.Runner() as runner, closing(Evaluator(max_waiting=1)) as evaluator:
        opened = lifespan(app)
        runner.run(opened.__aenter__())
        try:
            yield InProcess(runner, app.state.resources, evaluator)
        finally:
            runner.run(opened.__aexit__(None, None, None))


def _repo_call(question: str, case: Case) -> RepoCall:
    shared: dict[str, Any] = {"start": case.start, "end": case.end, "tz": case.tz}
    if question == "user_events":
        history = UserEvents(user_id=example_user(), **shared)
        return lambda repo: repo.get_user_events(history.query)
    if question == "top_events":
        top = TopEvents(**shared)
        return lambda repo: repo.get_top_events(top.query)
    if question == "active_users":
        active = ActiveUsers(**shared)
        return lambda repo: repo.get_active_users(active.query)
    counts = EventCounts(interval="day" if question.endswith("_per_day") else None, **shared)
    return lambda repo: repo.get_event_counts(counts.query)
