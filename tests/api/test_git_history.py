"""What is known of 200,925 real events, through the service as its users see it."""

from uuid import UUID

import httpx

from tests.api.questions import ask


def test_all_events_are_counted(history: httpx.Client) -> None:
    answer = ask(history, "event-counts", start="2005-01-01", end="2027-01-01")
    assert answer["data"] == {"events": 200_925, "users": 3_532}


def test_a_year_in_utc(history: httpx.Client) -> None:
    answer = ask(history, "event-counts", start="2025-01-01", end="2026-01-01")
    assert answer["data"] == {"events": 8_848, "users": 262}
    assert answer["meta"]["complete_until"] == "2026-01-01T00:00:00Z"


def test_top_events_of_a_year_in_utc(history: httpx.Client) -> None:
    answer = ask(history, "top-events", start="2025-01-01", end="2026-01-01", limit=5)
    assert [(r["event_name"], r["events"], r["users"]) for r in answer["data"]["rows"]] == [
        ("signed_off", 4_829, 187),
        ("commit", 2_521, 183),
        ("merge", 970, 4),
        ("helped", 180, 39),
        ("acked", 150, 24),
    ]
    other = answer["data"]["other"]
    assert other["events"] == 8_848 - 4_829 - 2_521 - 970 - 180 - 150
    assert answer["data"]["rows"][2]["share"] == 970 / 8_848


def test_the_same_year_in_los_angeles(history: httpx.Client) -> None:
    params = {"start": "2025-01-01", "end": "2026-01-01", "tz": "America/Los_Angeles"}
    assert ask(history, "event-counts", **params)["data"] == {"events": 8_849, "users": 263}
    rows = ask(history, "top-events", **params)["data"]["rows"]
    assert [(r["events"], r["users"]) for r in rows if r["event_name"] == "commit"] == [
        (2_522, 184)
    ]


def test_days_of_which_one_has_25_hours(history: httpx.Client) -> None:
    params = {"start": "2025-10-25", "end": "2025-10-28", "tz": "Europe/Berlin", "interval": "day"}
    data = ask(history, "event-counts", **params)["data"]
    assert [(b["events"], b["users"]) for b in data["series"]] == [(5, 3), (4, 3), (30, 6)]
    assert data["series"][1]["start"] == "2025-10-26T00:00:00+02:00"
    assert data["series"][1]["end"] == "2025-10-27T00:00:00+01:00"
    assert data["events"] == 39


def test_active_users_of_a_day(history: httpx.Client) -> None:
    (day,) = ask(history, "active-users", start="2025-12-31", end="2026-01-01")["data"]["series"]
    assert (day["date"], day["dau"], day["wau"], day["mau"]) == ("2025-12-31", 0, 12, 37)
    assert day["stickiness"] == 0
    assert day["partial"] is False
    assert "active" not in day


def test_a_long_history_comes_whole_and_newest_first(history: httpx.Client) -> None:
    seen: list[tuple[str, UUID]] = []
    cursor = None
    while True:
        more: dict[str, str] = {"cursor": cursor} if cursor else {}
        page = ask(history, "users/u_e5e88ca5b91b/events", limit=1000, **more)
        seen += [(e["occurred_at"], UUID(e["event_id"])) for e in page["data"]]
        if not (cursor := page["meta"]["next_cursor"]):
            break
    assert len(seen) == 72_111
    assert len({event_id for _, event_id in seen}) == 72_111
    assert seen == sorted(seen, reverse=True)


def test_areas_of_the_commits_of_a_year(history: httpx.Client) -> None:
    params = {"start": "2025-01-01", "end": "2026-01-01", "event": "commit", "by": "area"}
    data = ask(history, "breakdown", **params, limit=3)["data"]
    assert [(*row["values"], row["events"], row["users"]) for row in data["rows"]] == [
        ("root", 1_055, 94),
        ("Documentation", 508, 66),
        ("t", 289, 58),
    ]
    assert (data["events"], data["users"]) == (2_521, 183)
    other, missing = data["other"], data["missing"]
    assert (other["rows"], other["events"], other["users"]) == (19, 669, 91)
    assert (missing["events"], missing["users"]) == (2, 1)
