"""When a cached response is refreshed before it expires."""

import pytest

from services.answering.answer_service import is_refresh_due
from services.cached_response import CachedResponse


@pytest.mark.parametrize(("remaining_s", "is_due"), [(0.5, True), (1.0, False)])
def test_a_response_is_refreshed_early_by_chance(
    remaining_s: float, is_due: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # -1 s * ln(1 - 0.5) = 0.69 s before the expiry.
    monkeypatch.setattr("random.random", lambda: 0.5)
    response = CachedResponse("k", "application/json", {}, b"{}", 'W/"e"', 1.0, 60)
    assert is_refresh_due(response, remaining_s) is is_due
