"""Demo data: plausible events of an invented platform, reproducible by seed and end."""

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from random import Random
from typing import Any
from uuid import UUID

from repo.ingest import Event

NAMES = (
    "page_view", "search", "product_view", "login", "add_to_cart", "article_read", "click",
    "video_play", "notification_open", "profile_view", "checkout_started", "purchase", "comment",
    "like", "share", "filter_used", "remove_from_cart", "wishlist_add", "message_sent", "logout",
    "settings_changed", "file_upload", "download", "coupon_applied", "review_written",
    "payment_failed", "refund_requested", "support_opened", "invite_sent", "plan_upgraded",
    "password_reset", "email_verified", "export_started", "report_created", "team_created",
    "member_added", "api_key_created", "plan_downgraded", "account_deleted", "survey_answered",
)  # fmt: skip
_COUNTRIES = ("DE", "US", "FR", "GB", "IN", "BR", "JP", "NL", "PL", "ES")
_PLATFORMS = ("web", "ios", "android")
_PLANS = ("free", "free", "free", "pro", "team")

_HOUR = timedelta(hours=1)
_ANONYMOUS_SHARE = 0.04
_EXISTING_SHARE = 0.6  # the share of users who joined before the period
_GROWTH = 0.8  # the last hour has 1.8 times the events of the first
_WEEKEND_FACTOR = 0.55


@dataclass(frozen=True, slots=True)
class _User:
    user_id: str
    joined: float
    """Hours since the start of the period; negative for users who joined before it."""
    traits: dict[str, str]


def demo_events(
    count: int,
    *,
    seed: int,
    days: int,
    users: int,
    end: datetime,
    progress: Callable[[int], object] = lambda _: None,
) -> list[Event]:
    """`count` events of the `days` before `end`, oldest first.

    `progress` is called with the number of events generated since its last call.
    """
    random = Random(seed)
    start = end - timedelta(days=days)
    population = _population(random, users, hours=days * 24)
    signups = [user for user in population if user.joined >= 0][: count // 10]
    events = [_event(random, start, user.joined, user, "signup") for user in signups]
    progress(len(events))
    for event in _activity(random, start, days * 24, population, count - len(events)):
        events.append(event)
        progress(1)
    return sorted(events, key=lambda event: event.occurred_at)


def _population(random: Random, count: int, hours: int) -> list[_User]:
    """The users, in the order in which they joined."""
    joined = sorted(
        -1.0 if random.random() < _EXISTING_SHARE else random.random() * hours for _ in range(count)
    )
    return [_User(f"user_{n:06}", hour, _traits(random)) for n, hour in enumerate(joined, 1)]


def _traits(random: Random) -> dict[str, str]:
    return {
        "country": _COUNTRIES[min(int(random.expovariate(0.4)), len(_COUNTRIES) - 1)],
        "platform": random.choice(_PLATFORMS),
        "plan": random.choice(_PLANS),
    }


def _activity(
    random: Random, start: datetime, hours: int, population: list[_User], count: int
) -> Iterator[Event]:
    rhythm = [_weight(start + n * _HOUR, n / hours) for n in range(hours)]
    busy = sorted(random.choices(range(hours), rhythm, k=count))
    names = random.choices(NAMES, _zipf_weights(len(NAMES)), k=count)
    joined = [user.joined for user in population]
    reach = list(accumulate(_zipf(random, len(population))))
    for hour, name in zip(busy, names, strict=True):
        hour_offset = hour + random.random()
        # Draw only from users who have joined by then. Both lists are sorted by time of joining, so
        # the candidates are a prefix of `reach`, the cumulative weights.
        joined_count = max(bisect_right(joined, hour_offset), 1)
        user = population[
            bisect_right(reach, random.random() * reach[joined_count - 1], hi=joined_count - 1)
        ]
        yield _event(random, start, hour_offset, user, name)


def _weight(instant: datetime, elapsed: float) -> float:
    """The relative number of events of an hour: nights and weekends are quiet, growth is linear."""
    day = 1 + 0.85 * math.sin((instant.hour - 8) / 24 * 2 * math.pi)
    week = _WEEKEND_FACTOR if instant.weekday() >= 5 else 1.0
    return day * week * (1 + _GROWTH * elapsed)


def _zipf_weights(count: int) -> list[float]:
    return [1 / rank for rank in range(1, count + 1)]


def _zipf(random: Random, count: int) -> list[float]:
    """Zipf weights in random order: a few users cause most events, whenever they joined."""
    weights = _zipf_weights(count)
    random.shuffle(weights)
    return weights


def _event(random: Random, start: datetime, hour: float, user: _User, name: str) -> Event:
    has_user = name == "signup" or random.random() >= _ANONYMOUS_SHARE
    return Event(
        str(UUID(int=random.getrandbits(128), version=4)),
        user.user_id if has_user else "",
        name,
        (start + hour * _HOUR).astimezone(UTC).isoformat(),
        json.dumps(user.traits | _details(random, name)),
    )


def _details(random: Random, name: str) -> dict[str, Any]:
    """Properties that depend on the event name."""
    if name in {"purchase", "refund_requested"}:
        return {"amount": round(random.lognormvariate(3.4, 0.8), 2), "currency": "EUR"}
    if name == "search":
        return {"results": int(random.expovariate(0.05)), "query_length": random.randint(1, 40)}
    if name in {"page_view", "article_read"}:
        return {"path": f"/p/{int(random.paretovariate(1.1))}"}
    if name == "video_play":
        return {"seconds": int(random.expovariate(1 / 90))}
    return {}
