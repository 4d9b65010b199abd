"""What goes on, for a Grafana that has Prometheus alone."""

from tools.dashboards.dashboard import Section, board, top
from tools.dashboards.panels import EVENTS, USERS, bars, lines, ranking, stat
from tools.dashboards.queries import Json, promql

_EVENTS = 'analytics_events_total{job="analytics"}'


def dashboard() -> Json:
    return board(
        "analytics-business",
        "Analytics Business",
        "Events and active users from Prometheus alone. Exact days, and new users, are on the "
        "dashboard Analytics, which reads PostgreSQL.",
        [
            top(
                _active("today", "Active today", "So far, of the day of the first zone."),
                _active("7d", "Active in 7 days", "With today, as far as it has come."),
                _active("30d", "Active in 30 days", "With today, as far as it has come."),
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
        f"Different people with at least one event. {description} Exact, and behind by seconds.",
        promql(_gauge(period)),
        unit="short",
        color=USERS,
    )


def _last_day() -> Json:
    return stat(
        "Events in 24 hours",
        "Events that came in, whenever they occurred. Prometheus extrapolates: it is near, not "
        "exact.",
        promql(f"sum (increase({_EVENTS}[24h]))", instant=True),
        unit="short",
        spark=False,
    )


def _by_name() -> Json:
    by_name = f"60 * sum by (event_name) (rate({_EVENTS}[$__rate_interval]))"
    return bars(
        "Events by name",
        "Events a minute that came in. Names that are not in ANALYTICS_METRIC_EVENTS are `other`. "
        "A name that is missing where there always was one is worth a look at its sender.",
        promql(by_name, "{{event_name}}"),
        unit="cpm",
    )


def _ranked() -> Json:
    top_names = f"sort_desc (sum by (event_name) (increase({_EVENTS}[$__range])))"
    return ranking(
        "Most frequent",
        "Events of the range by name, as Prometheus extrapolates them.",
        promql(top_names, "{{event_name}}", instant=True),
        unit="short",
        label="event_name",
        color=EVENTS,
    )


def _users() -> Json:
    return lines(
        "Active users",
        "Today begins anew at midnight of the first zone; 7 and 30 days move with it.",
        promql(_gauge("today"), "today"),
        promql(_gauge("7d"), "7 days"),
        promql(_gauge("30d"), "30 days"),
        unit="short",
        colors={"today": EVENTS, "7 days": "light-purple", "30 days": USERS},
    )
