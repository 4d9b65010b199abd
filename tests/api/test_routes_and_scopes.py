"""Every door there is, who may come in at each, and what nobody is let out by."""

import socket
from collections.abc import Iterator

import httpx
import pytest
from psycopg2.extensions import connection
from starlette.routing import BaseRoute

from main import create_app
from services import container
from tests.api.questions import ask
from tests.api.test_keys import RANGE, add_key
from tests.live_server import running, scrape
from tests.problems import assert_problem
from tests.wait_until import wait_until

SCOPES = ("read", "write", "admin")
# Who may, of those who have one scope alone.
ROUTES: dict[tuple[str, str], set[str]] = {
    ("GET", "/analytics/event-counts"): {"read", "admin"},
    ("GET", "/analytics/top-events"): {"read", "admin"},
    ("GET", "/analytics/active-users"): {"read", "admin"},
    ("GET", "/analytics/breakdown"): {"read", "admin"},
    ("GET", "/analytics/event-names"): {"read", "admin"},
    ("GET", "/analytics/properties"): {"read", "admin"},
    ("GET", "/analytics/properties/{property}/values"): {"read", "admin"},
    ("GET", "/analytics/numbers"): {"read", "admin"},
    ("GET", "/analytics/retention"): {"read", "admin"},
    ("GET", "/analytics/lifecycle"): {"read", "admin"},
    ("GET", "/analytics/stickiness"): {"read", "admin"},
    ("GET", "/analytics/users"): {"read", "admin"},
    ("GET", "/analytics/users/{user_id}"): {"read", "admin"},
    ("GET", "/analytics/funnel"): {"read", "admin"},
    ("GET", "/analytics/users/{user_id}/events"): {"read", "admin"},
    ("DELETE", "/analytics/users/{user_id}"): {"admin"},
    ("POST", "/events"): {"write", "admin"},
    ("POST", "/events/browser"): set(),  # the key is in the URL
    ("POST", "/v1/batch"): {"write", "admin"},
    **{("POST", f"/v1/{letter}"): {"write", "admin"} for letter in "btpsiga"},
    ("POST", "/v1/track"): {"write", "admin"},
    ("POST", "/v1/page"): {"write", "admin"},
    ("POST", "/v1/screen"): {"write", "admin"},
    ("POST", "/v1/identify"): {"write", "admin"},
    ("POST", "/v1/group"): {"write", "admin"},
    ("POST", "/v1/alias"): {"write", "admin"},
    ("GET", "/"): {"read", "write", "admin", "nobody"},
    ("GET", "/healthz"): {"read", "write", "admin", "nobody"},
    ("GET", "/readyz"): {"read", "write", "admin", "nobody"},
}
# What the description leaves out: itself, and the page of metrics, which has a token of its own.
BESIDE = {
    "/openapi.json",
    "/docs",
    "/docs/oauth2-redirect",
    "/redoc",
    "/static-offline-docs",
    "/metrics",
}
ORIGIN = "https://app.example"


def paths(routes: list[BaseRoute]) -> Iterator[str]:
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from paths(inner.routes)
        else:
            yield str(getattr(route, "path", route)).replace(":text}", "}")


def test_the_api_description_lists_exactly_these_routes() -> None:
    app = create_app()
    described = {
        (method.upper(), path)
        for path, operations in app.openapi()["paths"].items()
        for method in operations
    }
    assert described == set(ROUTES)
    assert set(paths(app.routes)) == BESIDE | {path for _, path in ROUTES}


def test_each_route_needs_its_scope(service: httpx.Client, conn: connection) -> None:
    """And with it, a request is looked at: it may still be refused for what it says."""
    who = {scope: add_key(conn, f"has-{scope}", scope, name=scope) for scope in SCOPES}
    with httpx.Client(base_url=service.base_url) as stranger:
        for (method, path), may in ROUTES.items():
            statuses = {
                scope: stranger.request(
                    method, path.format(user_id="u", property="key"), headers=key
                ).status_code
                for scope, key in {**who, "nobody": {}}.items()
            }
            refused = {scope for scope, status in statuses.items() if status in (401, 403)}
            assert refused == {*SCOPES, "nobody"} - may, (method, path)
            assert (statuses["nobody"] == 401) == ("nobody" not in may)


def test_cors_never_allows_delete(database_url: str, redis_url: str) -> None:
    """Pages of origins that are set may ask and send, and do nothing else."""
    with running(database_url, redis_url, cors_origins=ORIGIN) as service:
        allowed = {
            method: service.options(
                "/analytics/users/u",
                headers={"Origin": ORIGIN, "Access-Control-Request-Method": method},
            ).status_code
            for method in ("GET", "POST", "DELETE")
        }
    assert allowed == {"GET": 200, "POST": 200, "DELETE": 400}


class TestWithoutKeys:
    """As the embedded servers run until there is a key."""

    @pytest.fixture
    def unlocked(
        self,
        database_url: str,
        redis_url: str,
        conn: connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Iterator[httpx.Client]:
        monkeypatch.setattr(container, "may_be_open", lambda _: True)
        conn.cursor().execute("delete from api_keys")
        with running(database_url, redis_url) as service:
            service.headers.pop("authorization")
            wait_until(lambda: self.statuses(service).status_code == 200, timeout_s=3)
            yield service

    def statuses(self, service: httpx.Client, **headers: str) -> httpx.Response:
        return service.get("/analytics/event-counts", params=RANGE, headers=headers)

    def test_this_machine_is_answered(self, unlocked: httpx.Client) -> None:
        for host in ("127.0.0.1:8000", "localhost", "localhost:1", "[::1]:8000"):
            assert self.statuses(unlocked, Host=host).status_code == 200

    def test_foreign_host_headers_are_rejected_without_keys(self, unlocked: httpx.Client) -> None:
        """By any way: what was asked before in the same words is not looked at again."""
        assert self.statuses(unlocked).headers["x-cache"] == "hit"
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1"):
            assert_problem(self.statuses(unlocked, Host=host), 403, "forbidden", payload="evil")
            erased = unlocked.delete("/analytics/users/u", headers={"Host": host})
            assert_problem(erased, 403, "forbidden")
        assert_problem(self.statuses(unlocked, Host="["), 400, "malformed-request")

    def test_any_name_will_do_where_there_are_keys(self, service: httpx.Client) -> None:
        assert self.statuses(service, Host="analytics.example").status_code == 200


def test_no_address_that_was_sent_is_asked(service: httpx.Client) -> None:
    """Nor is one that was stored looked up when it is shown."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        event = {"event_name": url, "user_id": url, "properties": {"url": url, "$ref": url}}
        assert service.post("/events", json=event, headers={"Referer": url}).status_code == 200
        assert ask(service, "top-events", last="1d")["data"]["rows"][0]["event_name"] == url
        assert service.get("/analytics/top-events", params={"tz": url}).status_code == 422
        scrape(service)
        with pytest.raises(TimeoutError):
            listening.accept()
