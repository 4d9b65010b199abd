"""Web pages in Chromium send events, with `sendBeacon` and with analytics.js: `make test-sdks`."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from psycopg2.extensions import connection

from tests.api.requests import stored_rows
from tests.api.test_keys import key_in, store_key
from tests.factories import ID, event
from tests.live_server import running
from tests.sdks.browser import Site, serving_pages
from tests.sdks.programs import NODE_MODULES
from tests.wait_until import wait_until

SECRET = key_in("of-a-page")
ANALYTICS_JS = NODE_MODULES / "@segment" / "analytics-next" / "dist" / "umd"
SEND = """
const answered = async (data, headers = {}) => {
  const body = JSON.stringify(data);
  const response = await fetch(URL_OF_EVENTS, { method: "POST", body, headers });
  return [response.status, await response.json()];
};
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    assert (ANALYTICS_JS / "index.js").exists(), "run `make test-sdks`"
    files = {f"/umd/{file.name}": file.read_bytes() for file in ANALYTICS_JS.glob("*.js")}
    with serving_pages(files) as served:
        yield served


@pytest.fixture
def pages(
    database_url: str, redis_url: str, conn: connection, site: Site
) -> Iterator[httpx.Client]:
    """A service that accepts events of pages of one of the origins of the site."""
    add_key(conn, SECRET, site.origin, None)
    with running(database_url, redis_url, browser_events=True) as service:
        yield service


def add_key(conn: connection, key: str, origin: str, rate: int | None) -> None:
    name = key.strip("-")
    store_key(conn, key, "write", name=name)
    conn.cursor().execute(
        "update api_keys set origins = %s, rate = %s where name = %s", ([origin], rate, name)
    )


def script(service: httpx.Client, text: str, key: str = SECRET) -> str:
    """The script of a page, with functions and the events 1 to 3."""
    url = f"{service.base_url}/events/browser?key={key}"
    constants = {"URL_OF_EVENTS": url, **{f"EVENT_{n}": event(n) for n in (1, 2, 3)}}
    lines = [f"const {name} = {json.dumps(value)};" for name, value in constants.items()]
    return "\n".join([*lines, SEND, text])


def test_a_beacon_is_stored_once(pages: httpx.Client, conn: connection, site: Site) -> None:
    """Though the page sends it twice, and then by `fetch`, with and without a preflight."""
    text = """
    const beacon = () => navigator.sendBeacon(URL_OF_EVENTS, JSON.stringify([EVENT_1]));
    const queued = [beacon(), beacon()];
    const plain = await answered(EVENT_2);
    const json = await answered(EVENT_2, { "Content-Type": "application/json" });
    report({ queued, plain, json });
    """
    assert site.visit(site.origin, script(pages, text)) == {
        "queued": [True, True],
        "plain": [200, {"accepted": 1, "duplicates": 0}],
        "json": [200, {"accepted": 0, "duplicates": 1}],
    }
    wait_until(lambda: stored_rows(conn) == [ID.format(1), ID.format(2)], timeout_s=10)


def test_a_page_that_is_left_sends_a_beacon(
    pages: httpx.Client, conn: connection, site: Site
) -> None:
    text = """
    if (location.hash === "#next") {
      report({ is_next: true });
    } else {
      const body = JSON.stringify(EVENT_3);
      addEventListener("pagehide", () => navigator.sendBeacon(URL_OF_EVENTS, body));
      location.replace("/next.html#next");
    }
    """
    assert site.visit(site.origin, script(pages, text)) == {"is_next": True}
    wait_until(lambda: stored_rows(conn) == [ID.format(3)], timeout_s=10)


def test_a_page_of_another_origin_stores_nothing(
    pages: httpx.Client, conn: connection, site: Site
) -> None:
    text = """
    const queued = navigator.sendBeacon(URL_OF_EVENTS, JSON.stringify(EVENT_1));
    report({ queued, plain: await answered(EVENT_2) });
    """
    reported = site.visit(site.other_origin, script(pages, text))
    assert reported["queued"] is True
    status, problem = reported["plain"]
    assert (status, problem["type"]) == (403, "urn:analytics-service:problem:forbidden")
    assert stored_rows(conn) == []
    # Another key, of this origin: what the page sends is then stored, so nothing else hindered it.
    other = key_in("of-another-page")
    add_key(conn, other, site.other_origin, None)
    wait_until(lambda: is_known(pages, other, site.other_origin), timeout_s=10)
    assert site.visit(site.other_origin, script(pages, text, other))["plain"][0] == 200
    wait_until(lambda: len(stored_rows(conn)) == 2, timeout_s=10)


def is_known(service: httpx.Client, key: str, origin: str) -> bool:
    headers = {"Content-Type": "text/plain", "Origin": origin}
    path = "/events/browser"
    answer = service.post(path, params={"key": key}, content=b"[]", headers=headers)
    return answer.status_code == 200


def test_a_page_is_told_when_it_sends_too_much(
    pages: httpx.Client, conn: connection, site: Site
) -> None:
    slow = key_in("of-a-slow-page")
    add_key(conn, slow, site.origin, 3)
    wait_until(lambda: is_known(pages, slow, site.origin), timeout_s=10)
    text = """
    const sent = Array.from({ length: 20 }, async () => {
      const body = '{"event_name": "x"}';
      const response = await fetch(URL_OF_EVENTS, { method: "POST", body });
      return [response.status, response.headers.get("Retry-After")];
    });
    report(await Promise.all(sent));
    """
    reported = site.visit(site.origin, script(pages, text, slow))
    stored = [status for status, _ in reported].count(200)
    assert {tuple(answer) for answer in reported} == {(200, None), (429, "1")}
    assert 0 < stored < 20
    assert len(stored_rows(conn)) == stored


def test_no_page_stores_events_by_default(
    database_url: str, redis_url: str, conn: connection, site: Site
) -> None:
    add_key(conn, SECRET, site.origin, None)
    text = """
    navigator.sendBeacon(URL_OF_EVENTS, JSON.stringify(EVENT_1));
    const failed = await answered(EVENT_2).catch((error) => error.name);
    report({ failed });
    """
    with running(database_url, redis_url) as service:
        assert site.visit(site.origin, script(service, text)) == {"failed": "TypeError"}
    assert stored_rows(conn) == []


CALLS = """
await analytics.ready().catch(() => null);
await Promise.all([
  analytics.identify("u_1", { plan: "pro" }),
  analytics.track("Signed Up", { plan: "pro" }),
  analytics.page("Docs", "Home"),
  analytics.screen("Docs", "Home"),
  analytics.group("g_1", { size: 3 }),
  analytics.alias("u_2"),
]);
report({ is_sent: true });
"""
STRATEGIES: dict[str, dict[str, Any]] = {
    "standard": {},
    "batching": {"deliveryStrategy": {"strategy": "batching", "config": {"size": 6}}},
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_analytics_js_sends_calls(
    pages: httpx.Client, conn: connection, site: Site, strategy: str
) -> None:
    """With its host and its key alone changed, one by one and as a batch."""
    host = str(pages.base_url).removeprefix("http://")
    settings = {
        "apiKey": SECRET,
        "apiHost": f"{host}/v1",
        "protocol": "http",
        **STRATEGIES[strategy],
    }
    options = {"writeKey": SECRET, "cdnSettings": {"integrations": {"Segment.io": settings}}}
    text = f"""
    await new Promise((resolve) => {{
      const element = document.createElement("script");
      element.src = "/umd/index.js";
      element.onload = resolve;
      document.head.append(element);
    }});
    const [analytics] = await AnalyticsNext.AnalyticsBrowser.load({json.dumps(options)});
    {CALLS}
    """
    assert site.visit(site.origin, text) == {"is_sent": True}
    names = ["Signed Up", "alias", "group", "identify", "page", "screen"]
    wait_until(lambda: sorted(stored_rows(conn, "event_name")) == names, timeout_s=15)
    assert set(stored_rows(conn, "user_id")) >= {"u_1"}
