"""Which API keys send the requests, and which of these are refused."""

from tools.dashboards.panels import BAD, GOOD, QUIET, WARN, bars, lines
from tools.dashboards.queries import Json, promql, rate

_REQUESTS = "analytics_key_requests_total"


def requests() -> Json:
    return lines(
        "Requests by key",
        "Requests a second of each key, by its name. (none): without a key that is known, as "
        "/healthz is asked; (other): keys beyond the first 50 names.",
        promql(rate(_REQUESTS, "key"), "{{key}}"),
        unit="reqps",
        stacked=True,
    )


def refused() -> Json:
    return lines(
        "Refused by key",
        "Requests a second that were answered with 4xx: 429 is a key over its limits, 403 one "
        "without the scope, 422 a caller whose parameters are wrong. The log has the lines, with "
        "`key` and `request_id`.",
        promql(rate(_REQUESTS, "key, status", status="~4.."), "{{key}} {{status}}"),
        unit="reqps",
        stacked=True,
    )


def checks() -> Json:
    colors = {"ok": GOOD, "none": QUIET, "unknown": BAD, "forbidden": WARN}
    return bars(
        "Checks of keys",
        "unknown: a key that was revoked or never was, so somebody tries or forgot to rotate; "
        "forbidden: a key without the scope; none: no key was sent.",
        promql(rate("analytics_key_checks_total", "result"), "{{result}}"),
        unit="reqps",
        colors=colors,
    )
