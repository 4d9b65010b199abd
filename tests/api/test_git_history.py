"""What is known of 200,925 real events, through the service as its users see it."""

from uuid import UUID

import httpx
import pytest

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


def test_lifecycle_of_authors_by_month(history: httpx.Client) -> None:
    params = {"start": "2025-01-01", "end": "2026-01-01", "event": "commit", "interval": "month"}
    series = ask(history, "lifecycle", **params)["data"]["series"]
    sums = {
        name: sum(month[name] for month in series)
        for name in ("new", "returning", "resurrected", "dormant")
    }
    assert sums == {"new": 94, "returning": 208, "resurrected": 149, "dormant": 249}


def retained(history: httpx.Client, **parameters: object) -> list[list[int]]:
    """By month of 2025 the users of each cohort, and of its cells."""
    params = {"start": "2025-01-01", "end": "2025-05-01", "interval": "month", "periods": 3}
    answer = ask(history, "retention", **params, **parameters)
    return [
        [cohort["users"], *(cell["users"] for cell in cohort["cells"])]
        for cohort in answer["data"]["cohorts"]
    ]


def test_new_authors_who_sign_off(history: httpx.Client) -> None:
    assert retained(history, **{"from": "commit", "to": "signed_off"}) == [
        [8, 6, 0, 1],
        [8, 5, 1, 1],
        [12, 9, 4, 2],
        [4, 4, 1, 1],
    ]


def test_authors_of_each_month_are_those_of_both_months(history: httpx.Client) -> None:
    cohorts = retained(history, entry="each", **{"from": "commit", "to": "commit"})
    assert cohorts[:3] == [[40, 40, 14, 21], [34, 34, 18, 9], [49, 49, 16, 19]]


ALL_YEARS = {"start": "2005-01-01", "end": "2027-01-01"}


@pytest.mark.parametrize(
    ("steps", "within", "users"),
    [
        (["commit", "signed_off"], "7d", [2_669, 2_197]),
        (["commit", "commit"], "7d", [2_669, 1_166]),
        (["reported", "commit", "signed_off"], "30d", [846, 100, 96]),
    ],
)
def test_funnels_of_all_years(
    history: httpx.Client, steps: list[str], within: str, users: list[int]
) -> None:
    """The numbers were counted twice by independent code."""
    data = ask(history, "funnel", step=steps, within=within, **ALL_YEARS)["data"]
    assert [step["users"] for step in data["steps"]] == users
    by_area = ask(history, "funnel", step=steps, within=within, by="area", limit=3, **ALL_YEARS)
    rows = [*by_area["data"]["rows"], by_area["data"]["other"], by_area["data"]["missing"]]
    assert [sum(row["steps"][n]["users"] for row in rows) for n in range(len(steps))] == users
    by_year = ask(history, "funnel", step=steps, within=within, interval="year", **ALL_YEARS)
    series = by_year["data"]["series"]
    assert [sum(each["users"][n] for each in series) for n in range(len(steps))] == users
