"""`GET /`: a page for browsers and JSON for programs, with links that work."""

import html
import re
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from html.parser import HTMLParser

import httpx
import pytest
from psycopg2.extensions import connection

from services import container
from tests.api.questions import PATHS
from tests.api.test_keys import store_key
from tests.events import insert
from tests.live_server import running, scrape, value
from tests.problems import assert_problem
from tests.servers import KEY
from tests.wait_until import adjusted_for_load, wait_until
from utils.version import version

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
VOID = {"meta", "link"}


class Page(HTMLParser):
    """The tags of a page with their attributes. Raises: AssertionError where they do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), "an attribute comes twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] or "" for _, attrs in self.tags if attribute in attrs]


def page_of(service: httpx.Client, **headers: str) -> str:
    answer = service.get("/", headers={**BROWSER, **headers})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


@pytest.fixture
def unlocked(
    database_url: str, redis_url: str, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> Iterator[httpx.Client]:
    """As the embedded servers run until there is a key."""
    monkeypatch.setattr(container, "may_be_open", lambda _: True)
    conn.cursor().execute("delete from api_keys")
    with running(database_url, redis_url, metrics_token=None) as service:
        service.headers.pop("authorization")
        wait_until(lambda: not service.get("/").json()["needs_key"], timeout_s=3)
        yield service


@pytest.fixture
def stranger(service: httpx.Client) -> Iterator[httpx.Client]:
    """Without a key, at a service that needs one."""
    with httpx.Client(base_url=service.base_url) as client:
        yield client


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/csv", ""])
def test_programs_get_json(stranger: httpx.Client, accept: str) -> None:
    answer = stranger.get("/", headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert [link["path"] for link in found.pop("questions")] == list(PATHS.values())
    assert found == {
        "service": "Analytics Service",
        "version": version(),
        "status": "ready",
        "checks": {"database": "ok", "cache": "ok", "rollups": found["checks"]["rollups"]}
        | {"storage": "ok"},
        "needs_key": True,
        "metrics_access": "token",
        "links": {
            "docs": "/docs",
            "openapi": "/openapi.json",
            "ready": "/readyz",
            "health": "/healthz",
            "metrics": "/metrics",
        },
    }


@pytest.mark.parametrize("accept", ["*/*", BROWSER["Accept"]])
def test_head_is_get_without_the_body(stranger: httpx.Client, accept: str) -> None:
    got, head = (
        stranger.request(method, "/", headers={"Accept": accept}) for method in ("GET", "HEAD")
    )
    assert (head.status_code, head.content) == (200, b"")
    changing = {"x-request-id", "date"}
    assert {name: text for name, text in head.headers.items() if name not in changing} == {
        name: text for name, text in got.headers.items() if name not in changing
    }
    assert head.headers["content-length"] == str(len(got.content))


@pytest.mark.parametrize("accept", ["*/*", BROWSER["Accept"]])
def test_no_cache_mixes_the_forms_up(stranger: httpx.Client, accept: str) -> None:
    answer = stranger.get("/", headers={"Accept": accept})
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["cache-control"] == "no-store"


def test_the_page_loads_nothing_and_runs_nothing(stranger: httpx.Client) -> None:
    answer = stranger.get("/", headers=BROWSER)
    style = answer.text.split("<style>")[1].split("</style>")[0]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert answer.headers["content-security-policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert answer.headers["referrer-policy"] == "no-referrer"
    page = Page(answer.text)
    assert not {"script", "iframe", "img", "form", "object"} & {tag for tag, _ in page.tags}
    assert not [
        name for _, attrs in page.tags for name in attrs if name.startswith(("on", "style"))
    ]
    assert all(link.startswith(("/", "data:image/svg+xml,")) for link in page.values("href"))
    assert page.values("src") == []
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("needs_key", [True, False])
def test_the_page_is_html(request: pytest.FixtureRequest, needs_key: bool) -> None:
    text = page_of(request.getfixturevalue("stranger" if needs_key else "unlocked"))
    assert text.startswith('<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n')
    page = Page(text)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert set(page.values("aria-labelledby")) <= set(ids)
    tags = [tag for tag, _ in page.tags]
    assert [tags.count(tag) for tag in ("title", "h1", "main", "header")] == [1, 1, 1, 1]
    assert tags.count("h3") == len(PATHS)


class TestWithoutKeys:
    def links(self, service: httpx.Client) -> list[str]:
        return Page(page_of(service)).values("href")

    def test_each_link_works(self, unlocked: httpx.Client) -> None:
        """Also without any event."""
        links = [link for link in self.links(unlocked) if link.startswith("/")]
        assert len([link for link in links if link.startswith("/analytics/")]) == len(PATHS)
        for link in links:
            assert unlocked.get(link, headers=BROWSER).status_code == 200, link

    def test_answers_have_something_in_them(self, unlocked: httpx.Client, conn: connection) -> None:
        insert(conn, ("user_000001", "product_view", datetime.now(UTC), {"amount": 7}))
        fields = "events|dau|event_id|sum|users|active|entered"
        for link in self.links(unlocked):
            if link.startswith("/analytics/"):
                assert re.search(rf'"({fields})":("|1\b|7\b)', unlocked.get(link).text), link

    def test_examples_of_json_are_those_of_the_page(self, unlocked: httpx.Client) -> None:
        examples = [link["example"] for link in unlocked.get("/").json()["questions"]]
        assert examples == [link for link in self.links(unlocked) if link.startswith("/analytics/")]

    def test_the_command_works(self, unlocked: httpx.Client) -> None:
        (command,) = commands(page_of(unlocked))
        assert '"data":' in called(command)

    def test_a_foreign_host_header_is_rejected_without_keys(self, unlocked: httpx.Client) -> None:
        answer = unlocked.get("/", headers={**BROWSER, "Host": "evil.example"})
        assert_problem(answer, 403, "forbidden", payload="evil")


def commands(page: str) -> list[str]:
    """The calls that a page shows."""
    found = re.findall(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL)
    return [html.unescape(each) for each in found if each.startswith("curl ")]


def called(command: str, key: str = "") -> str:
    done = subprocess.run(
        ["bash", "-c", command], env={"KEY": key}, capture_output=True, text=True, check=True
    )
    return done.stdout


class TestWithKeys:
    def test_the_commands_work_with_a_key(self, stranger: httpx.Client) -> None:
        """And nothing on the page leads to a 401."""
        page = page_of(stranger)
        for link in Page(page).values("href"):
            assert link.startswith("data:") or stranger.get(link).status_code == 200, link
        shown = commands(page)
        assert len(shown) == len(PATHS)
        for command in shown:
            assert '"data":' in called(command, KEY)
            assert '"status":401' in called(command, "ask_none")

    def test_strangers_are_told_nothing_of_the_data(
        self, stranger: httpx.Client, conn: connection
    ) -> None:
        insert(conn, ("canary-user", "canary-event", datetime.now(UTC)))
        store_key(conn, "ask_" + "c" * 40, "read", name="canary-key")
        for headers in (BROWSER, {}):
            text = stranger.get("/", headers=headers).text
            assert "canary" not in text
            assert "ask_" not in text

    def test_a_host_that_is_none_is_not_shown(self, stranger: httpx.Client) -> None:
        assert "https://analytics.example/analytics/" in page_of(stranger, Host="analytics.example")
        assert "evil" not in page_of(stranger, Host="evil'x")

    def test_metrics_are_shown_as_closed(self, database_url: str, redis_url: str) -> None:
        with running(database_url, redis_url, metrics_token=None) as service:
            assert service.get("/").json()["metrics_access"] == "closed"
            assert "closed until ANALYTICS_METRICS_TOKEN is set" in page_of(service)


class TestNotReady:
    def test_postgresql_that_is_away(self, redis_url: str) -> None:
        with running("postgresql://nobody@127.0.0.1:1/none", redis_url) as service:
            found = service.get("/").json()
            assert found["status"] == "not ready"
            assert found["checks"]["database"] == "unavailable: DatabaseUnavailable"
            page = page_of(service)
        assert "Not ready: questions cannot be answered" in page
        assert "unavailable: DatabaseUnavailable" in page

    def test_postgresql_that_is_silent(self, redis_url: str) -> None:
        """It takes connections and never answers. Many requests make one look."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
            with running(url, redis_url) as service, ThreadPoolExecutor(20) as threads:
                began = time.monotonic()
                answers = list(threads.map(lambda _: service.get("/"), range(20)))
                assert time.monotonic() - began < adjusted_for_load(3)
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["checks"]["database"] for answer in answers} == {
            "unavailable: no answer within 1 s"
        }

    def test_migrations_that_are_missing(self, service: httpx.Client, conn: connection) -> None:
        conn.cursor().execute("delete from schema_migrations where number = 1")
        wait_until(lambda: service.get("/").json()["status"] == "not ready", timeout_s=3)
        assert "1 migrations missing: run the command migrate" in page_of(service)

    def test_without_redis_it_is_ready(self, database_url: str) -> None:
        with running(database_url, "redis://127.0.0.1:1/0") as service:
            found = service.get("/").json()
            assert found["status"] == "ready"
            assert found["checks"]["cache"] == "unavailable: questions are answered without it"


def test_the_root_page_does_not_use_up_pool_connections(service: httpx.Client) -> None:
    """Anybody may ask, as often as they like."""
    service.get("/")
    acquired = 'analytics_pool_acquired_total{pool="questions"}'
    before = value(scrape(service), acquired)
    assert {service.get("/").status_code for _ in range(100)} == {200}
    assert value(scrape(service), acquired) - before <= 10
