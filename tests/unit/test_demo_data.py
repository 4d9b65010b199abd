"""Demo events: the same for the same seed, of the days that end now, and believable."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from repo.ingest import Event
from services.demo_data import NAMES, demo_events

END = datetime(2026, 3, 1, 15, 30, tzinfo=UTC)


def generated_events(seed: int = 1, count: int = 20_000) -> list[Event]:
    return demo_events(count, seed=seed, days=90, users=1000, end=END)


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return generated_events()


def instant(event: Event) -> datetime:
    return datetime.fromisoformat(event.occurred_at)


def test_the_seed_decides_all_of_it(events: list[Event]) -> None:
    assert generated_events() == events
    assert generated_events(seed=2) != events


def test_there_are_as_many_as_were_asked_for_each_with_its_id(events: list[Event]) -> None:
    assert len({event.event_id for event in events}) == len(events) == 20_000


def test_they_end_now_and_begin_90_days_before(events: list[Event]) -> None:
    assert events == sorted(events, key=lambda event: event.occurred_at)
    assert END - timedelta(days=90) <= instant(events[0]) < END - timedelta(days=89)
    assert END - timedelta(days=1) < instant(events[-1]) <= END


def test_nights_and_weekends_are_quiet_and_the_platform_grows(events: list[Event]) -> None:
    hours = Counter(instant(event).hour for event in events)
    days = Counter(instant(event).weekday() for event in events)
    assert hours[14] > 3 * hours[2]
    assert days[2] > 1.4 * days[6]
    assert sum(instant(e) > END - timedelta(days=30) for e in events) > 1.3 * sum(
        instant(e) < END - timedelta(days=60) for e in events
    )


def test_a_few_names_and_users_do_most(events: list[Event]) -> None:
    names = Counter(event.event_name for event in events)
    users = Counter(event.user_id for event in events if event.user_id)
    assert len(names) > 35
    assert names[NAMES[0]] > 5 * names[NAMES[9]]
    assert sum(count for _, count in users.most_common(100)) > 0.4 * len(events)
    assert 0.02 < sum(not event.user_id for event in events) / len(events) < 0.06


def test_nobody_acts_before_joining(events: list[Event]) -> None:
    joined = {e.user_id: e.occurred_at for e in events if e.event_name == "signup"}
    assert joined
    for event in events:
        assert event.occurred_at >= joined.get(event.user_id, "")


def test_events_tell_what_fits_them(events: list[Event]) -> None:
    purchase = next(event for event in events if event.event_name == "purchase")
    assert set(json.loads(purchase.properties)) == {
        "country",
        "platform",
        "plan",
        "amount",
        "currency",
    }
