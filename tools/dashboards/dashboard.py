"""Lays out the sections of a dashboard, panels from left to right in a grid of 24 columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tools.dashboards.queries import POSTGRES, PROMETHEUS, Json

TAG = "analytics"
_WIDE = 24
_STAT, _GRAPH, _TITLE = 4, 8, 1

INSTANCE: Json = {
    "type": "query",
    "name": "instance",
    "label": "Instance",
    "description": "Replicas of the service",
    "datasource": PROMETHEUS,
    "query": 'label_values(http_requests_in_flight{job="analytics"}, instance)',
    "definition": 'label_values(http_requests_in_flight{job="analytics"}, instance)',
    "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    "includeAll": True,
    "allValue": ".+",
    "multi": True,
    "refresh": 2,
    "sort": 1,
}


def query_variable(name: str, label: str, query: str, *, current: str | None = None) -> Json:
    """A variable with values from PostgreSQL; without `current` several or all can be selected."""
    one = {"selected": True, "text": current, "value": current}
    every = {"selected": True, "text": ["All"], "value": ["$__all"]}
    # "All" is a condition that is always true, since the list of names may be very long.
    many = {"includeAll": True, "allValue": "event_name", "multi": True}
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": POSTGRES,
        "query": query,
        "definition": query,
        "current": one if current else every,
        **({} if current else many),
        "refresh": 2,
        "sort": 0,
    }


@dataclass(frozen=True)
class Section:
    """Panels of one height under a title; without a title there is no heading row."""

    title: str
    panels: Sequence[Json]
    height: int = _GRAPH
    widths: Sequence[int] = ()
    """Widths of the panels in columns; by default all have the same width."""


def top(*panels: Json, widths: Sequence[int] = ()) -> Section:
    """The first section of a dashboard: single numbers without a heading."""
    return Section("", panels, _STAT, widths)


def board(
    uid: str,
    title: str,
    description: str,
    sections: Sequence[Section],
    *,
    last: str,
    refresh: str,
    variables: Sequence[Json] = (),
) -> Json:
    panels = [{"id": at, **panel} for at, panel in enumerate(_laid_out(sections), 1)]
    return {
        "id": None,
        "uid": uid,
        "title": title,
        "description": description,
        "tags": [TAG],
        "timezone": "utc",
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": 39,
        "version": 1,
        "refresh": refresh,
        "time": {"from": last, "to": "now"},
        "weekStart": "monday",
        "links": [_links()],
        "annotations": {"list": []},
        "templating": {"list": list(variables)},
        "panels": panels,
    }


def _laid_out(sections: Sequence[Section]) -> Iterator[Json]:
    y = 0
    for section in sections:
        if section.title:
            position = _grid_position(0, y, _WIDE, _TITLE)
            yield {
                "type": "row",
                "title": section.title,
                "collapsed": False,
                "gridPos": position,
                "panels": [],
            }
            y += _TITLE
        y = yield from _wrapped(section, y)


def _wrapped(section: Section, y: int) -> Any:
    """Yield the panels of a section with their positions; return the y of the next section."""
    x = 0
    widths = section.widths or [_width(section)] * len(section.panels)
    for panel, width in zip(section.panels, widths, strict=True):
        if x + width > _WIDE:
            x, y = 0, y + section.height
        yield {**panel, "gridPos": _grid_position(x, y, width, section.height)}
        x += width
    return y + section.height


def _width(section: Section) -> int:
    """The width of each panel: more than three graphs are wrapped into rows of three or two."""
    count = len(section.panels)
    if count <= 3 or section.height == _STAT:
        return _WIDE // count
    return _WIDE // 3 if count % 3 == 0 else _WIDE // 2


def _grid_position(x: int, y: int, w: int, h: int) -> Json:
    return {"x": x, "y": y, "w": w, "h": h}


def _links() -> Json:
    return {
        "title": "Analytics Service",
        "type": "dashboards",
        "tags": [TAG],
        "icon": "external link",
        "tooltip": "The other dashboards",
        "asDropdown": True,
        "includeVars": False,
        "keepTime": False,
        "targetBlank": False,
        "url": "",
    }
