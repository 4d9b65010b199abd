"""What people do: events and active users of days, from the numbers that the folder keeps."""

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
        "Events and active users, exact, by days of the chosen zone. The end of the range should "
        "be today for the numbers of today.",
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
            "Different people with at least one event today, so far. It is behind by seconds.",
            sql(SQL["analytics_today"], "time_series"),
            unit="short",
            color=USERS,
            spark=False,
            noValue="not counted yet",
        ),
        stat(
            "Daily active",
            "Different people with at least one event on the last whole day.",
            _whole_days("dau"),
            unit="short",
            color=USERS,
        ),
        stat(
            "Weekly active",
            "Different people in the 7 days that end with the last whole day.",
            _whole_days("wau"),
            unit="short",
            color=USERS,
        ),
        stat(
            "Monthly active",
            "Different people in the 30 days that end with the last whole day.",
            _whole_days("mau"),
            unit="short",
            color=USERS,
        ),
        stat(
            "New",
            "Of the active people of the last whole day, those who were not active on any of the "
            "29 days before: for the first time, or again after a month away.",
            _whole_days("new_users"),
            unit="short",
            color=_NEW,
        ),
        stat(
            "Events",
            "On the last whole day.",
            _whole_days("events"),
            unit="short",
        ),
    ]


def _active() -> Json:
    columns = 'dau as "day", wau as "7 days", mau as "30 days"'
    return lines(
        "Active users",
        "Different people on each day, and in the 7 and 30 days that end with it. Days that are "
        "not over are left out.",
        _whole_days(columns),
        unit="short",
        colors={"day": EVENTS, "7 days": _NEW, "30 days": USERS},
    )


def _new() -> Json:
    return bars(
        "New and returning users",
        "Both together are the active users of the day. New: not active on any of the 29 days "
        "before, so for the first time or again after a month away. Returning: all others.",
        sql(SQL["analytics_new"], "time_series"),
        unit="short",
        colors={"returning": USERS, "new": "yellow"},
        calcs=("lastNotNull", "mean"),
    )


def _moves() -> Json:
    return bars(
        "What moves monthly active users",
        "Came: new users of the day. Left: people whose last active day is now 30 days ago. What "
        "is above the line less what is below it is by how much monthly active users grow.",
        sql(SQL["analytics_moves"], "time_series"),
        unit="short",
        colors={"came": "green", "left": "red"},
        calcs=("sum", "mean"),
        signed=True,
    )


def _stickiness() -> Json:
    return lines(
        "Stickiness",
        "Daily active users as a share of the monthly ones: 50 % means that people come every "
        "other day. Weekends show.",
        _whole_days("stickiness"),
        unit="percentunit",
        colors={"stickiness": USERS},
        calcs=("lastNotNull", "mean"),
    )


def _events() -> Json:
    return bars(
        "Events",
        "All events of each day, also those of nobody. Today is as far as it has come.",
        sql(SQL["analytics_events"], "time_series"),
        unit="short",
        colors={"whole days": EVENTS, "today so far": "light-blue"},
        calcs=("mean", "max"),
    )


def _top_days() -> Json:
    return bars(
        "Events by name",
        "The eight most frequent names of the range, and all others together.",
        sql(SQL["analytics_top_days"], "time_series"),
        unit="short",
        colors={"all others": QUIET},
        calcs=("sum",),
    )


def _top() -> Json:
    return table(
        "Top events",
        "The most frequent names of the range. Users cannot be added up over days, since the same "
        "people come again: shown are those of the busiest day. The API counts them over any "
        "range (`/analytics/top-events`).",
        sql(SQL["analytics_top"]),
        unit="short",
        units={"Share": "percentunit"},
        gauges=["Events"],
    )


def _chosen_events() -> Json:
    return lines(
        "Events of the chosen names",
        "Each day's events of the names that are chosen above; of all, the eight most frequent.",
        sql(SQL["analytics_chosen"].replace("$column", "events"), "time_series"),
        unit="short",
        calcs=("sum",),
    )


def _chosen_users() -> Json:
    return lines(
        "Users of the chosen names",
        "Different people who did each of them on a day.",
        sql(SQL["analytics_chosen"].replace("$column", "users"), "time_series"),
        unit="short",
        calcs=("mean", "max"),
    )


def _days() -> Json:
    return table(
        "Days",
        "The numbers of each day, newest first; to take along as CSV from the panel's menu.",
        sql(SQL["analytics_days"]),
        unit="short",
        units={"Stickiness": "percentunit"},
        gauges=["Active"],
    )
