"""What happens to answers when the rules of time zones change."""

import pytest

from services import cached_response
from tests.live_server import running

PARAMS = {"start": "2026-03-10", "end": "2026-03-12", "tz": "Africa/Casablanca"}


def test_answers_that_were_kept_are_those_of_the_same_rules(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Services of two versions share a cache while one takes the place of the other."""
    outcomes = []
    for rules in ("2026e", "2026e", "2026f", "2026e"):
        monkeypatch.setattr(cached_response, "TZDATA_VERSION", rules)
        # Long enough for four starts of a service on a busy machine.
        with running(database_url, redis_url, cache_ttl_open_s=600) as client:
            answer = client.get("/analytics/event-counts", params=PARAMS)
            outcomes.append(answer.headers["x-cache"])
    assert outcomes == ["miss", "hit", "miss", "hit"]
