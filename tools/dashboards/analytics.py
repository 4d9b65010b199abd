"""The dashboard Analytics: events and active users by day, from the daily statistics."""

from tools.dashboards.dashboard import Section, board, query_variable, top
from tools.dashboards.panels import EVENTS, QUIET, USERS, bars, lines, stat, table
from tools.dashboards.queries import Json, sql, statements

_STATEMENTS = statements("analytics")
_IN_RANGE = _STATEMENTS["analytics_in_range"].partition("*/ ")[2].rstrip(";")
SQL = {name: text.replace("$days", _IN_RANGE) for name, text in _STATEMENTS.items()}

_NEW = "light-purple"


def dashboard() -> Json:
    return board(
        "analytics",
        "Analytics",
        "Exact events and active users by day of the chosen zone. End the range today to see the "
        "figures of today.",
        [
            top(*_numbers()),
            Section("Users", [_active(), _new(), _moves(), _stickiness()]),
            Section("Events", [_events(), _top_days(), _top()], widths=(12, 12, 24)),
            Section("Chosen events", [_chosen_events(), _chosen_users()]),
            Section("Days", [_days()], 12),
        ],
        last="now-29d/d",
        refresh="1m",
        variables=[
            query_variable("zone", "Days of", SQL["analytics_zones"], current="UTC"),
            query_variable("event", "Events", SQL["analytics_names"]),
        ],
    )


def _whole_days(column: str) -> Json:
    return sql(SQL["analytics_whole"].replace("$column", column), "time_series")


def _numbers() -> list[Json]:
    return [
        stat(
            "Active today",
            "Users with at least one event today, so far. A few seconds behind.",
            sql(SQL["analytics_today"], "time_series"),
            unit="short",
            color=USERS,
            spark=False,
            noValue="not computed yet",
        ),
        stat(
            "Daily active",
            "Users with at least one event on the last complete day.",
            _whole_days("dau"),
            unit="short",
            color=USERS,
        ),
        stat(
            "Weekly active",
            "Users with an event in the 7 days that end with the last complete day.",
            _whole_days("wau"),
            unit="short",
            color=USERS,
        ),
        stat(
            "Monthly active",
            "Users with an event in the 30 days that end with the last complete day.",
            _whole_days("mau"),
            unit="short",
            color=USERS,
        ),
        stat(
            "New or resurrected",
            "Active users of the last complete day who were not active on any of the 29 days "
            "before: new users, and users who return after a month.",
            _whole_days("new_or_resurrected_users"),
            unit="short",
            color=_NEW,
        ),
        stat(
            "Events",
            "Events on the last complete day.",
            _whole_days("events"),
            unit="short",
        ),
    ]


def _active() -> Json:
    columns = 'dau as "day", wau as "7 days", mau as "30 days"'
    return lines(
        "Active users",
        "Users with an event on each day, and in the 7 and 30 days that end with it. Incomplete "
        "days are left out.",
        _whole_days(columns),
        unit="short",
        colors={"day": EVENTS, "7 days": _NEW, "30 days": USERS},
    )


def _new() -> Json:
    return bars(
        "New or resurrected, and returning users",
        "Together they are the active users of the day. New or resurrected: not active on any of "
        "the 29 days before, so new users or users who return after a month. Returning: all "
        "others.",
        sql(SQL["analytics_new"], "time_series"),
        unit="short",
        colors={"returning": USERS, "new or resurrected": "yellow"},
        calcs=("lastNotNull", "mean"),
    )


def _moves() -> Json:
    return bars(
        "What moves monthly active users",
        "Came: new or resurrected users of the day. Left: users whose last active day was 30 days "
        "ago. The difference is the change of monthly active users.",
        sql(SQL["analytics_moves"], "time_series"),
        unit="short",
        colors={"came": "green", "left": "red"},
        calcs=("sum", "mean"),
        signed=True,
    )


def _stickiness() -> Json:
    return lines(
        "Stickiness",
        "Daily active users as a share of monthly active users: at 50 %, users come every other "
        "day. Weekends are visible.",
        _whole_days("stickiness"),
        unit="percentunit",
        colors={"stickiness": USERS},
        calcs=("lastNotNull", "mean"),
    )


def _events() -> Json:
    return bars(
        "Events",
        "All events of each day, including events without a user. Today is incomplete.",
        sql(SQL["analytics_events"], "time_series"),
        unit="short",
        colors={"whole days": EVENTS, "today so far": "light-blue"},
        calcs=("mean", "max"),
    )


def _top_days() -> Json:
    return bars(
        "Events by name",
        "The eight most frequent event names of the range, and all others together.",
        sql(SQL["analytics_top_days"], "time_series"),
        unit="short",
        colors={"all others": QUIET},
        calcs=("sum",),
    )


def _top() -> Json:
    return table(
        "Top events",
        "The most frequent event names of the range. Users of several days cannot be added, since "
        "the same users return, so the users of the busiest day are shown. The API counts users "
        "over any range (`/analytics/top-events`).",
        sql(SQL["analytics_top"]),
        unit="short",
        units={"Share": "percentunit"},
        gauges=["Events"],
    )


def _chosen_events() -> Json:
    return lines(
        "Events of the chosen names",
        "Events per day of the event names chosen above; if all are chosen, of the eight most "
        "frequent.",
        sql(SQL["analytics_chosen"].replace("$column", "events"), "time_series"),
        unit="short",
        calcs=("sum",),
    )


def _chosen_users() -> Json:
    return lines(
        "Users of the chosen names",
        "Users per day of each of these event names.",
        sql(SQL["analytics_chosen"].replace("$column", "users"), "time_series"),
        unit="short",
        calcs=("mean", "max"),
    )


def _days() -> Json:
    return table(
        "Days",
        "The statistics of each day, newest first. The menu of the panel exports them as CSV.",
        sql(SQL["analytics_days"]),
        unit="short",
        units={"Stickiness": "percentunit"},
        gauges=["Active"],
    )
