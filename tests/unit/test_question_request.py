"""Keys of requests in the cache of recent requests."""

import pytest

from services.answering.question_request import RequestKey, accepts_gzip, request_key


@pytest.mark.parametrize(
    ("header", "is_accepted"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("gzip;q=0", False), ("*", False), ("br", False)],
)
def test_gzip_is_accepted_by_name(header: str, is_accepted: bool) -> None:
    assert accepts_gzip({"accept-encoding": header}) is is_accepted


def test_a_request_key_has_what_determines_the_response() -> None:
    scope = {"raw_path": b"/analytics/top-events", "query_string": b"last=7d"}
    headers = {"accept": "text/csv", "accept-encoding": "gzip"}
    key = RequestKey(b"/analytics/top-events", b"last=7d", "text/csv", True)
    assert request_key(scope, headers) == key
    assert request_key({**scope, "query_string": b"x" * 2_000}, headers) is None
