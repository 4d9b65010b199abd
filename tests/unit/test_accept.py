"""Which media type an `Accept` header prefers."""

import pytest

from utils.accept import prefers, weight_of

CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "is_html"),
    [
        (CHROME, True),
        ("text/html", True),
        ("TEXT/HTML;level=1", True),
        ("text/*", True),
        ("application/json;q=0.9, text/html", True),
        ("*/*;q=0.1, text/html;q=0.2", True),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0", False),
        ("text/html;q=nonsense", False),
        ("image/png", False),
        (";;,,q=,", False),
    ],
)
def test_html_is_for_those_who_prefer_it(accept: str, is_html: bool) -> None:
    assert prefers(accept, "text/html", "application/json") is is_html


def test_the_most_specific_range_counts() -> None:
    accept = "text/*;q=0.3, text/html;q=0.7, */*;q=0.5"
    weights = [weight_of(accept, each) for each in ("text/html", "text/plain", "image/png")]
    assert weights == [0.7, 0.3, 0.5]
