"""URLs whose password is not percent-encoded."""

import pytest

from utils.postgres_urls import url_fault


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:secret@db:5432/events",
        "postgresql://ada:a%40b%2Fc@db/events",
        "postgresql://db/events?options=-c%20a@b",
        "postgresql:///events",
    ],
)
def test_usual_urls_have_no_fault(url: str) -> None:
    assert url_fault(url) is None


@pytest.mark.parametrize(
    "url", ["postgresql://ada:a@b@db/events", "postgresql://ada:a/b@db/events"]
)
def test_a_fault_does_not_show_the_password(url: str) -> None:
    fault = url_fault(url)
    assert fault is not None
    assert "must be percent-encoded" in fault
    assert "ada" not in fault
