"""Programs on docs/clients.md, docs/export.md and docs/sdks.md are run: `make test-sdks`."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from tests.api.questions import ask
from tests.cli import run_cli
from tests.pages import DOCS
from tests.sdks.programs import FOLDER, PYTHON, program, run_program

CLIENTS, EXPORT, SDKS = (DOCS / f"{name}.md" for name in ("clients", "export", "sdks"))
DUCKDB = "import duckdb, sys; print(duckdb.sql(sys.stdin.read()).fetchall())"


@pytest.fixture
def with_events(service: httpx.Client) -> httpx.Client:
    events = [
        {"event_name": name, "user_id": f"u{n}"} for n in range(7) for name in ("view", "buy")
    ]
    assert service.post("/events", json=[*events, {"event_name": "view"}]).status_code == 200
    return service


def test_pandas(with_events: httpx.Client) -> None:
    printed = run_program(with_events, [PYTHON, "-"], program(CLIENTS, "pandas", "python"))
    *_, last = printed.splitlines()
    assert last.split()[-2:] == ["15", "7"]


def test_javascript(with_events: httpx.Client) -> None:
    command = [FOLDER / "node", "--input-type=module", "-"]
    printed = run_program(with_events, command, program(CLIENTS, "JavaScript", "js"))
    assert ["view", "8", "7"] in [
        [cell.strip(" '") for cell in line.split("│")[2:5]] for line in printed.splitlines()
    ]


def test_duckdb_reads_an_export(
    with_events: httpx.Client, database_url: str, tmp_path: Path, conn: connection
) -> None:
    assert run_cli("export", "--to", tmp_path / "to", DATABASE_URL=database_url).exit_code == 0
    text = program(EXPORT, "Reading the files", "sql")
    paths = {"/var/lib/analytics-export": str(tmp_path / "to")}
    printed = run_program(with_events, [PYTHON, "-c", DUCKDB], text, **paths)
    assert printed == "[('view', 8, 7), ('buy', 7, 7)]\n"


@pytest.mark.parametrize(
    ("language", "command"),
    [("python", [PYTHON, "-"]), ("js", [FOLDER / "node", "--input-type=module", "-"])],
)
def test_the_sdks_on_the_page(service: httpx.Client, language: str, command: list[Any]) -> None:
    text = program(SDKS, "Sending events with SDKs and from web pages", language)
    address = {"https://analytics.example.com": str(service.base_url)}
    run_program(service, command, text, **address)
    top = ask(service, "top-events", last="24h")["data"]["rows"]
    assert [event["event_name"] for event in top] == ["Signed Up"]
