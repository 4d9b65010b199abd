"""The dashboard Analytics Business: events and active users from Prometheus alone."""

from tools.dashboards.dashboard import Section, board, top
from tools.dashboards.panels import EVENTS, USERS, bars, lines, ranking, stat
from tools.dashboards.queries import Json, promql

_EVENTS = 'analytics_events_total{job="analytics"}'


def dashboard() -> Json:
    return board(
        "analytics-business",
        "Analytics Business",
        "Events and active users from Prometheus alone. The dashboard Analytics, which reads "
        "PostgreSQL, has exact days, and new or resurrected users.",
        [
            top(
                _active("today", "Active today", "Today so far, in the first declared zone."),
                _active("7d", "Active in 7 days", "Including today so far."),
                _active("30d", "Active in 30 days", "Including today so far."),
                _last_day(),
            ),
            Section("", [_by_name(), _ranked()], widths=(16, 8)),
            Section("", [_users()]),
        ],
        last="now-24h",
        refresh="1m",
    )


def _gauge(period: str) -> str:
    return f'max (analytics_active_users{{job="analytics", period="{period}"}})'


def _active(period: str, title: str, description: str) -> Json:
    return stat(
        title,
        f"Users with at least one event. {description} Exact, and a few seconds behind.",
        promql(_gauge(period)),
        unit="short",
        color=USERS,
    )


def _last_day() -> Json:
    return stat(
        "Events in 24 hours",
        "Events received in the last 24 hours, whenever they occurred. Prometheus extrapolates, so "
        "the number is approximate.",
        promql(f"sum (increase({_EVENTS}[24h]))", instant=True),
        unit="short",
        spark=False,
    )


def _by_name() -> Json:
    by_name = f"60 * sum by (event_name) (rate({_EVENTS}[$__rate_interval]))"
    return bars(
        "Events by name",
        "Events received per minute. Names that are not in ANALYTICS_METRIC_EVENTS are `other`. If "
        "a name disappears, check its sender.",
        promql(by_name, "{{event_name}}"),
        unit="cpm",
    )


def _ranked() -> Json:
    top_names = f"sort_desc (sum by (event_name) (increase({_EVENTS}[$__range])))"
    return ranking(
        "Most frequent",
        "Events of the range by name, extrapolated by Prometheus.",
        promql(top_names, "{{event_name}}", instant=True),
        unit="short",
        label="event_name",
        color=EVENTS,
    )


def _users() -> Json:
    return lines(
        "Active users",
        "Today restarts at midnight of the first declared zone; the windows of 7 and 30 days move "
        "with it.",
        promql(_gauge("today"), "today"),
        promql(_gauge("7d"), "7 days"),
        promql(_gauge("30d"), "30 days"),
        unit="short",
        colors={"today": EVENTS, "7 days": "light-purple", "30 days": USERS},
    )
