"""Panels of requests and refusals by API key."""

from tools.dashboards.panels import BAD, GOOD, QUIET, WARN, bars, lines
from tools.dashboards.queries import Json, promql, rate

_REQUESTS = "analytics_key_requests_total"


def requests() -> Json:
    return lines(
        "Requests by key",
        "Requests per second by the name of the API key. (none): without a valid key, such as "
        "requests of /healthz; (other): keys beyond the first 50 names.",
        promql(rate(_REQUESTS, "key"), "{{key}}"),
        unit="reqps",
        stacked=True,
    )


def refused() -> Json:
    return lines(
        "Refused by key",
        "Requests per second answered with 4xx: 429 is a key over its limits, 403 a key without "
        "the scope, 422 invalid parameters. The log lines contain `key` and `request_id`.",
        promql(rate(_REQUESTS, "key, status", status="~4.."), "{{key}} {{status}}"),
        unit="reqps",
        stacked=True,
    )


def checks() -> Json:
    colors = {"ok": GOOD, "none": QUIET, "unknown": BAD, "forbidden": WARN}
    return bars(
        "Checks of keys",
        "unknown: a key that was revoked or never existed, so somebody guesses keys or did not "
        "rotate one; forbidden: a key without the scope; none: no key was sent.",
        promql(rate("analytics_key_checks_total", "result"), "{{result}}"),
        unit="reqps",
        colors=colors,
    )
