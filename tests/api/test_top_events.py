"""top-events: order, ties, and the other row."""

from datetime import UTC, datetime

import httpx
from psycopg2.extensions import connection

from tests.api.questions import ask
from tests.events import insert

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
PARAMS = {"start": "2025-03-10", "end": "2025-03-11"}


def test_ties_stand_in_the_order_of_their_names(service: httpx.Client, conn: connection) -> None:
    insert(conn, *[("u", name, NOON) for name in ("b", "a", "Z", "é", "c", "c")])
    rows = ask(service, "top-events", **PARAMS)["data"]["rows"]
    assert [row["event_name"] for row in rows] == ["c", "Z", "a", "b", "é"]


def test_the_other_row_makes_the_events_add_up(service: httpx.Client, conn: connection) -> None:
    insert(
        conn,
        *[("u", "view", NOON)] * 2,
        ("u", "buy", NOON),
        ("v", "buy", NOON),
        ("v", "leave", NOON),
        ("v", "stay", NOON),
    )
    assert ask(service, "top-events", **PARAMS, limit=2)["data"] == {
        "events": 6,
        "users": 2,
        "rows": [
            {"event_name": "buy", "events": 2, "users": 2, "share": 1 / 3},
            {"event_name": "view", "events": 2, "users": 1, "share": 1 / 3},
        ],
        "other": {"event_names": 2, "events": 2, "users": 1, "share": 1 / 3},
    }


def test_no_events_are_no_rows(service: httpx.Client) -> None:
    data = ask(service, "top-events", **PARAMS)["data"]
    none = {"event_names": 0, "events": 0, "users": 0, "share": 0.0}
    assert data == {"events": 0, "users": 0, "rows": [], "other": none}


def test_rows_of_csv_add_up(service: httpx.Client, conn: connection) -> None:
    """The last one is all the others."""
    instant = "2025-03-10T12:00:00Z"
    insert(conn, *[("u", name, instant) for name in ("a", "a", "b", "c")], ("v", "c", instant))
    params = {"start": "2025-03-10", "end": "2025-03-11", "limit": "1", "format": "csv"}
    response = service.get("/analytics/top-events", params=params)
    assert response.text.splitlines() == [
        "event_name,type,events,users,share",
        "a,text,2,1,0.4",
        "(other),other,3,2,0.6",
    ]
