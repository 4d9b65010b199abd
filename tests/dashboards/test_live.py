"""Each panel shows something, soon, over a service at work, its Prometheus and its PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import promql_parser
import pytest

from tests.dashboards.live_service import ZONES, live_sources, make_demo_data, view_of
from tests.dashboards.macros import DashboardView, expand_macros
from tests.dashboards.panel_data import Sources
from tests.servers import Cluster
from tools.dashboards.__main__ import dashboards
from tools.dashboards.queries import Json
from tools.pictures.draw import draw

WATCHED_S = 12
BOARDS = dashboards()
TARGETS = [
    pytest.param(board, target, id=f"{name}: {panel['title']} {target['refId']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    for target in panel.get("targets", ())
]
EXPRESSIONS = [given for given in TARGETS if "expr" in given.values[1]]  # type: ignore[operator]
VARIABLES = [
    pytest.param(board, variable, id=f"{name}: {variable['name']}")
    for name, board in BOARDS.items()
    for variable in board["templating"]["list"]
]


@pytest.fixture(scope="module")
def sources(cluster: Cluster, redis_url: str) -> Iterator[Sources]:
    url = cluster.migrated_database()
    make_demo_data(url, 20_000)
    with live_sources(url, redis_url, WATCHED_S) as live:
        yield live
    cluster.drop(url)


@pytest.mark.parametrize(("board", "target"), TARGETS)
def test_a_query_gives_something_soon(sources: Sources, board: Json, target: Json) -> None:
    result = sources.ask(target, view_of(board, WATCHED_S))
    assert result.has_data
    assert result.seconds < 1


@pytest.mark.parametrize(("board", "target"), EXPRESSIONS)
def test_each_metric_is_there(sources: Sources, board: Json, target: Json) -> None:
    """Also where a panel has something to show without it."""
    tree = promql_parser.parse(expand_macros(target, DashboardView.example()))
    missing = set(metrics(tree)) - sources.names()
    assert missing <= SELDOM, missing


SELDOM = {"ALERTS", "analytics_cache_errors_total", "analytics_limited_requests_total"}
"""Those that begin with what does not happen here."""


def metrics(tree: object) -> Iterator[str]:
    """The names in an expression."""
    if isinstance(tree, promql_parser.VectorSelector):
        assert tree.name
        yield tree.name
    for part in ("expr", "lhs", "rhs", "vs", "args"):
        inner = getattr(tree, part, None)
        for each in inner if isinstance(inner, list) else [inner]:
            if each is not None:
                yield from metrics(each)


@pytest.mark.parametrize(("board", "variable"), VARIABLES)
def test_a_variable_has_values(sources: Sources, board: Json, variable: Json) -> None:
    if variable["datasource"]["type"] == "prometheus":
        assert "http_requests_in_flight" in sources.names()
        return
    target = {"rawSql": variable["query"], "format": "table"}
    (values,) = sources.ask(target, view_of(board, WATCHED_S)).columns.values()
    assert len(values) > 1
    current = variable["current"]["value"]
    assert current == ["$__all"] or current in values


@pytest.mark.parametrize("zone", ZONES)
def test_days_are_those_of_the_zone(sources: Sources, zone: str) -> None:
    """Wherever it is tomorrow already, and wherever it is still yesterday."""
    today = datetime.now(ZoneInfo(zone)).date()
    view = view_of(BOARDS["analytics"], WATCHED_S, zone)
    days = sources.ask(target_of("analytics_days"), view).columns["Day"]
    assert days[0] == f"{today:%a %Y-%m-%d} so far"
    assert days[1] == f"{today - timedelta(days=1):%a %Y-%m-%d}"
    (full_days, *_) = sources.ask(target_of("analytics_whole"), view).series
    assert full_days.points[-1][0].date() == today - timedelta(days=1)
    (active,) = sources.ask(target_of("analytics_today"), view).series
    assert [day.date() for day, _ in active.points] == [today]


def test_a_range_of_the_past_ends_with_its_last_date(sources: Sources) -> None:
    end = datetime.now(UTC).replace(hour=23, minute=59, second=59) - timedelta(days=3)
    chosen_days = {"zone": "Pacific/Auckland", "event": "event_name"}
    view = DashboardView(end - timedelta(days=2, hours=23), end, chosen_days)
    days = sources.ask(target_of("analytics_days"), view).columns["Day"]
    assert days == [f"{end - timedelta(days=n):%a %Y-%m-%d}" for n in range(3)]


def target_of(name: str) -> Json:
    return next(
        candidate.values[1]  # type: ignore[misc]
        for candidate in TARGETS
        if f"/* {name} */" in candidate.values[1].get("rawSql", "")  # type: ignore[union-attr]
    )


def test_names_may_hold_quotes(sources: Sources) -> None:
    """Grafana quotes each chosen name."""
    view = view_of(BOARDS["analytics"], WATCHED_S)
    two = {**view.variables, "event": "'page_view','it''s'"}
    result = sources.ask(target_of("analytics_chosen"), DashboardView(view.start, view.end, two))
    assert [line.name for line in result.series] == ["page_view"]


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_can_be_drawn(sources: Sources, name: str, tmp_path: Path) -> None:
    board = BOARDS[name]
    view = view_of(board, WATCHED_S)
    answers = {
        panel["id"]: [sources.ask(target, view) for target in panel["targets"]]
        for panel in board["panels"]
        if panel["type"] != "row"
    }
    draw(board, answers, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
