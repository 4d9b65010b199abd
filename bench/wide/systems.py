"""The systems of the part `wide`. Each asks a case and converts its result to numbers."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import chain
from typing import Any, Protocol

import chdb.session
import duckdb
import msgspec
from psycopg2.extensions import connection

from bench.http_client import HttpConnection
from bench.in_process import InProcess, in_process
from bench.stored_set import Stores
from bench.wide.answers import Answer, from_rows, from_service
from bench.wide.cases import WideCase, warming_cases, wide_query_texts
from common.questions import QUESTIONS
from tests.live_server import AUTHORIZED
from tests.source_comparison import connected

_SETTINGS = ("timezone = 'UTC'", "jit = off", "work_mem = '256MB'")
OTHERS = ("postgresql tuned", "duckdb", "chdb")
"""The systems that can be left out."""

_QUESTIONS = {question.name: question for question in QUESTIONS}
_WARM_CONNECTIONS = 8
"""So many connections at once reach both workers of the service."""


class WideSystem(Protocol):
    """A system; `name` is its row in the table."""

    name: str

    def query_text(self, case: WideCase) -> str:
        """The SQL or URL of a query."""

    def prepare(self, case: WideCase) -> Callable[[], Any]:
        """Prepare a query outside of the measurement; return the call that is timed."""

    def read(self, case: WideCase, result: Any) -> Answer: ...


class WideService:
    """The service over HTTP with `Cache-Control: no-cache`, so that it computes each answer."""

    name = "service http uncached"

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = self._connect()

    def query_text(self, case: WideCase) -> str:
        return f"GET {case.address}"

    def prepare(self, case: WideCase) -> Callable[[], Any]:
        self._connection.reopen("/healthz")
        request = self._connection.request(case.address)
        return lambda: self._connection.ask(request)

    def read(self, case: WideCase, result: Any) -> Answer:
        return from_service(case, json.loads(result[1])["data"])

    def warm_up(self, questions: Iterable[str]) -> None:
        """Ask about all days on both workers, so that they hold all columns."""
        with ThreadPoolExecutor(_WARM_CONNECTIONS) as threads:
            for case in chain.from_iterable(map(warming_cases, questions)):
                list(threads.map(self._ask_anew, [case] * _WARM_CONNECTIONS))

    def ask_without_filter(self) -> None:
        """Ask what needs no columns."""
        self._connection.ask(self._connection.request("/analytics/event-counts?last=1d"))

    def _ask_anew(self, case: WideCase) -> None:
        connection = self._connect()
        with suppress(AssertionError):  # a question that is rejected fails when it is timed
            connection.ask(connection.request(case.address))

    def _connect(self) -> HttpConnection:
        return HttpConnection(self._port, {**AUTHORIZED, "Cache-Control": "no-cache"})


class WideInProcess:
    """A method of EventsRepo, and the evaluation of what it reads, from question to answer."""

    name = "service in process"

    def __init__(self, service: InProcess) -> None:
        self._service = service

    def query_text(self, case: WideCase) -> str:
        return f"EventsRepo.get_{case.definition.name}"

    def prepare(self, case: WideCase) -> Callable[[], Any]:
        name = case.definition.name
        question = _QUESTIONS[name].model_validate_json(json.dumps(case.parameters))
        method = f"get_{name}"
        return self._service.caller(lambda repo: getattr(repo, method)(question.query))

    def read(self, case: WideCase, result: Any) -> Answer:
        return from_service(case, msgspec.json.decode(msgspec.json.encode(result.data)))


class WidePostgres:
    """PostgreSQL: the fastest SQL found on its column of JSON."""

    name = "postgresql tuned"

    def __init__(self, conn: connection) -> None:
        self.query_text = wide_query_texts("wide_postgresql")
        self._cur = conn.cursor()
        for setting in _SETTINGS:
            self._cur.execute(f"set {setting}")

    def prepare(self, case: WideCase) -> Callable[[], Any]:
        text = self.query_text(case)

        def ask() -> Any:
            self._cur.execute(text)
            return self._cur.fetchall()

        return ask

    def read(self, case: WideCase, result: Any) -> Answer:
        return from_rows(case, result)


class WideDuckDb:
    """DuckDB in this process."""

    name = "duckdb"
    query_text = staticmethod(wide_query_texts("wide_duckdb"))

    def __init__(self, file: str) -> None:
        self._conn = duckdb.connect(file, read_only=True)
        self._conn.execute("select 1").fetchall()

    def prepare(self, case: WideCase) -> Callable[[], Any]:
        text = self.query_text(case)
        return lambda: self._conn.execute(text).fetchall()

    def read(self, case: WideCase, result: Any) -> Answer:
        return from_rows(case, result)


class WideChDb:
    """chDB in this process."""

    name = "chdb"
    query_text = staticmethod(wide_query_texts("wide_chdb"))

    def __init__(self, folder: str) -> None:
        self._session = chdb.session.Session(folder)
        self._session.query("select 1")

    def close(self) -> None:
        """Release the folder, which one process can open at a time."""
        self._session.close()

    def prepare(self, case: WideCase) -> Callable[[], Any]:
        text = self.query_text(case)
        return lambda: self._session.query(text, "CSV").bytes()

    def read(self, case: WideCase, result: Any) -> Answer:
        rows = csv.reader(io.StringIO(result.decode()))
        return from_rows(case, [row for row in rows if row])  # an empty line precedes the totals


@contextmanager
def warm_systems(
    stores: Stores, url: str, port: int, questions: Iterable[str]
) -> Iterator[list[WideSystem]]:
    """All systems; the service holds the columns of the questions for all days."""
    with ExitStack() as stack:
        service = WideService(port)
        service.warm_up(questions)
        chdb_system = stack.enter_context(closing(WideChDb(str(stores.chdb))))
        yield [
            service,
            WideInProcess(stack.enter_context(in_process(url, stores.endpoints.redis_url))),
            WidePostgres(stack.enter_context(connected(url))),
            WideDuckDb(str(stores.duckdb)),
            chdb_system,
        ]
