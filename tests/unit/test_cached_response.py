"""Rendered answers: body, headers, ETag and cache key."""

import gzip
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from common.questions.answer import Answer, Meta, Table, Tabular
from common.remarks import Unknown
from services.cached_response import CachedResponse, PreparedQuery, render
from utils.formats import Format
from utils.time.zones import TZDATA_VERSION

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
META = Meta(NOON, NOON, "UTC", NOON, NOON, "rollups")


@dataclass
class Values(Tabular):
    values: list[int | str]

    def table(self) -> Table:
        return Values, [self]

    def headers(self) -> dict[str, str]:
        return {"X-Negative": "true"} if -1 in self.values else {}


def _no_answer(_: object) -> NoReturn:
    raise AssertionError("rendering computes nothing")


def query(
    cache_version: str | None = "v1", form: Format = "json", *, compressed: bool = False
) -> PreparedQuery:
    return PreparedQuery(
        "q", "base", (1, 2), cache_version, "e7", form, compressed, _no_answer, "db"
    )


def rendered(
    values: list[int | str], meta: Meta = META, *, compressed: bool = False
) -> CachedResponse:
    answer = Answer(Values(values), meta, "v2")
    return render(query(compressed=compressed), answer, compute_s=0.1, fresh_s=60)


def test_the_key_has_the_cache_version_or_the_last_erasure() -> None:
    prefix = f"analytics:7.{TZDATA_VERSION}:db:base"
    assert query("v1").key == f"{prefix}:v1"
    assert query(None).key == f"{prefix}:e7"


def test_a_response_is_stored_under_the_version_of_its_answer() -> None:
    assert rendered([1]).key.endswith(":base:v2")


def test_the_body_has_data_and_meta() -> None:
    response = rendered([1, 2])
    assert response.body.startswith(
        b'{"data":{"values":[1,2]},"meta":{"start":"2025-03-01T12:00:00Z"'
    )
    assert (response.media_type, response.headers) == ("application/json", {})


def test_what_has_no_place_in_rows_is_a_header() -> None:
    assert rendered([-1]).headers == {"X-Negative": "true"}


def test_the_etag_ignores_when_and_from_what_the_answer_was_computed() -> None:
    later = Meta(NOON, NOON, "UTC", NOON + timedelta(1), NOON + timedelta(1), "events")
    elsewhere = Meta(NOON, NOON, "Asia/Tokyo", NOON, NOON, "rollups")
    assert rendered([1]).etag == rendered([1], later).etag
    assert rendered([1]).etag not in (rendered([2]).etag, rendered([1], elsewhere).etag)


def test_only_large_bodies_are_compressed() -> None:
    large = rendered(["x" * 1_000], compressed=True)
    assert large.headers == {"Content-Encoding": "gzip"}
    assert b"x" * 1_000 in gzip.decompress(large.body)
    assert rendered(["x"], compressed=True).headers == {}


def test_an_answer_is_settled_when_only_late_events_can_change_it() -> None:
    """The next event may have a name that no event had so far."""
    minutes = [timedelta(minutes=each) for each in (14, 15)]
    over = [replace(META, computed_at=NOON + each) for each in minutes]
    assert [meta.is_settled for meta in over] == [False, True]
    assert not replace(over[1], unknown=Unknown(["sign_up"], [])).is_settled
    assert not replace(over[1], end=None).is_settled


def test_an_answer_is_settled_when_all_that_it_depends_on_is_over() -> None:
    """Of a funnel that includes the time after its range; late events have to be tracked."""
    meta = replace(META, computed_at=NOON + timedelta(minutes=15))
    assert Answer(Values([1]), meta, "v2", is_over=True).is_settled
    assert not Answer(Values([1]), meta, "v2", is_over=False).is_settled
    assert not Answer(Values([1]), META, "v2", is_over=True).is_settled
    assert not Answer(Values([1]), meta, None, is_over=True).is_settled
