"""The systems that are compared. Each converts its results to the same form of answer."""

import csv
import io
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import chdb.session
import duckdb
from psycopg2.extensions import connection

from bench.cases import Case, address, query_texts
from bench.http_client import HttpConnection

Answer = list[Any]
"""The numbers of a result in order; for a history, the ids."""
QueryText = Callable[[str, Case], str | None]

_COUNT_COLUMNS = {"events_per_day": "events", "unique_users_per_day": "users"}


class System(Protocol):
    """A system; `name` is its row in the table."""

    name: str

    def query_text(self, question: str, case: Case) -> str | None:
        """The SQL or URL of a query; None if the system cannot answer it."""

    def prepare(self, question: str, case: Case) -> Callable[[], Any]:
        """Prepare a query outside of the measurement; return the call that is timed."""

    def read(self, question: str, answer: Any) -> Answer: ...


class Postgres:
    """PostgreSQL: SQL through psycopg2."""

    def __init__(self, name: str, conn: connection, *settings: str) -> None:
        self.name = name
        self.query_text: QueryText = query_texts(name.replace(" ", "_"))
        self._cur = conn.cursor()
        for setting in settings:
            self._cur.execute(f"set {setting}")

    def prepare(self, question: str, case: Case) -> Callable[[], Any]:
        text = self.query_text(question, case) or ""

        def ask() -> Any:
            self._cur.execute(text)
            return self._cur.fetchall()

        return ask

    def read(self, question: str, answer: Any) -> Answer:
        return from_rows(question, answer)


class DuckDb:
    """DuckDB in this process. Times are stored as UTC without a zone, which is faster."""

    name = "duckdb"

    def __init__(self, file: Path) -> None:
        self._conn = duckdb.connect(str(file), read_only=True)
        self._query_texts = query_texts("duckdb")

    def query_text(self, question: str, case: Case) -> str | None:
        return None if case.arriving else self._query_texts(question, case)

    def prepare(self, question: str, case: Case) -> Callable[[], Any]:
        text = self.query_text(question, case) or ""
        return lambda: self._conn.execute(text).fetchall()

    def read(self, question: str, answer: Any) -> Answer:
        return from_rows(question, answer)


class ChDb:
    """chDB in this process; the table is sorted by time."""

    name = "chdb"

    def __init__(self, folder: Path) -> None:
        self._session = chdb.session.Session(str(folder))
        self._query_texts = query_texts("chdb")

    def query_text(self, question: str, case: Case) -> str | None:
        return None if case.arriving else self._query_texts(question, case)

    def prepare(self, question: str, case: Case) -> Callable[[], Any]:
        text = self.query_text(question, case)
        return lambda: self._session.query(text, "CSV").bytes()

    def read(self, question: str, answer: Any) -> Answer:
        return from_rows(question, list(csv.reader(io.StringIO(answer.decode()))))


class Uncached:
    """The service over HTTP with `Cache-Control: no-cache`, so that it computes each answer."""

    name = "service http uncached"

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self._connection = HttpConnection(port, headers)

    def query_text(self, question: str, case: Case) -> str | None:
        return f"GET {address(question, case)}"

    def prepare(self, question: str, case: Case) -> Callable[[], Any]:
        self._connection.reopen("/healthz")
        request = self._connection.request(address(question, case))
        return lambda: self._connection.ask(request)

    def read(self, question: str, answer: Any) -> Answer:
        return from_service(question, json.loads(answer[1])["data"])


class Cached(Uncached):
    """The service over HTTP, with the answer in its cache."""

    name = "service http cached"

    def prepare(self, question: str, case: Case) -> Callable[[], Any]:
        ask = super().prepare(question, case)
        ask()
        return ask


def from_rows(question: str, rows: list[Any]) -> Answer:
    if question == "user_events":
        return [str(row[0]) for row in rows]
    if question == "top_events":
        return [[name, int(count)] for name, count in rows]
    if question == "active_users":
        return [int(count) for row in rows for count in row if not isinstance(count, date)]
    return [int(row[-1]) for row in rows]


def from_service(question: str, data: Any) -> Answer:
    if question == "user_events":
        return [event["event_id"] for event in data]
    if question == "top_events":
        return [[row["event_name"], row["events"]] for row in data["rows"]]
    if question == "active_users":
        return [day[name] for day in data["series"] for name in ("dau", "wau", "mau")]
    if question == "unique_users":
        return [data["users"]]
    return [bucket[_COUNT_COLUMNS[question]] for bucket in data["series"]]
