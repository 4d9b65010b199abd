"""Builders of panels: each has a title, a description that says what to do, and a unit."""

from collections.abc import Mapping, Sequence
from typing import Any

from tools.dashboards.queries import Json

Steps = Sequence[tuple[float, str]]
"""Thresholds and the colour from each on."""

GOOD, WARN, BAD = "green", "orange", "red"
EVENTS, USERS, QUIET = "blue", "purple", "#8e8e8e"


def stat(
    title: str,
    description: str,
    *targets: Json,
    unit: str,
    color: str = EVENTS,
    steps: Steps = (),
    spark: bool = True,
    **defaults: Any,
) -> Json:
    """A single number over a sparkline. `steps` colour it by its value."""
    config = {**_thresholds(color, steps), "color": {"mode": "thresholds"}, **defaults}
    return {
        **_panel("stat", title, description, targets, {"unit": unit, **config}),
        "options": {
            "colorMode": "value",
            "graphMode": "area" if spark else "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showPercentChange": False,
            "textMode": "auto",
            "wideLayout": True,
        },
    }


def lines(
    title: str,
    description: str,
    *targets: Json,
    unit: str,
    colors: Mapping[str, str] | None = None,
    stacked: bool = False,
    bars: bool = False,
    limit: float | None = None,
    signed: bool = False,
    calcs: Sequence[str] = ("lastNotNull", "max"),
    **defaults: Any,
) -> Json:
    """A time series. `limit` is drawn as a dashed line; `signed` allows values below zero."""
    custom: Json = {
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 70 if bars else 25 if stacked else 8,
        "lineWidth": 0 if bars else 2,
        "lineInterpolation": "linear",
        "pointSize": 4,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": "off" if limit is None else "dashed"},
    }
    field_defaults = {
        "unit": unit,
        "color": {"mode": "palette-classic"},
        **({} if signed else {"min": 0}),
        **({} if limit is None else _thresholds("transparent", [(limit, BAD)])),
        **defaults,
        "custom": custom,
    }
    return {
        **_panel("timeseries", title, description, targets, field_defaults, _fixed(colors or {})),
        "options": {"legend": _legend(calcs), "tooltip": {"mode": "multi", "sort": "desc"}},
    }


def bars(title: str, description: str, *targets: Json, unit: str, **more: Any) -> Json:
    """A stack of bars per point in time, such as a day."""
    return lines(title, description, *targets, unit=unit, bars=True, stacked=True, **more)


def ranking(
    title: str, description: str, target: Json, *, unit: str, label: str, color: str = EVENTS
) -> Json:
    """A bar per row; `label` is the column with their names."""
    field_defaults = {
        "unit": unit,
        "color": {"mode": "fixed", "fixedColor": color},
        "custom": {"fillOpacity": 75, "lineWidth": 0},
    }
    return {
        **_panel("barchart", title, description, [target], field_defaults),
        "options": {
            "barRadius": 0.1,
            "barWidth": 0.8,
            "fullHighlight": False,
            "groupWidth": 0.7,
            "legend": {**_legend(()), "showLegend": False},
            "orientation": "horizontal",
            "showValue": "always",
            "stacking": "none",
            "tooltip": {"mode": "single", "sort": "none"},
            "xField": label,
            "xTickLabelMaxLength": 24,
            "xTickLabelRotation": 0,
        },
    }


def table(
    title: str,
    description: str,
    target: Json,
    *,
    unit: str,
    units: Mapping[str, str] | None = None,
    gauges: Sequence[str] = (),
) -> Json:
    """A table. `units` override the unit per column; columns in `gauges` have a bar."""
    overrides = [_override(name, unit=of_column) for name, of_column in (units or {}).items()]
    cell = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
    gauge = {"custom.cellOptions": cell, "color": {"mode": "fixed", "fixedColor": EVENTS}, "min": 0}
    overrides += [_override(name, **gauge) for name in gauges]
    field_defaults = {"unit": unit, "custom": {"align": "auto", "inspect": False}}
    return {
        **_panel("table", title, description, [target], field_defaults, overrides),
        "options": {"cellHeight": "sm", "frameIndex": 0, "showHeader": True},
    }


def _panel(
    kind: str,
    title: str,
    description: str,
    targets: Sequence[Json],
    defaults: Json,
    overrides: Sequence[Json] = (),
) -> Json:
    letters = [{"refId": chr(ord("A") + at), **target} for at, target in enumerate(targets)]
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": targets[0]["datasource"],
        "targets": letters,
        "fieldConfig": {
            "defaults": {"noValue": "no data", **defaults},
            "overrides": list(overrides),
        },
    }


def _thresholds(base: str, steps: Steps) -> Json:
    all_steps = [{"value": None, "color": base}, *({"value": at, "color": to} for at, to in steps)]
    return {"thresholds": {"mode": "absolute", "steps": all_steps}}


def _legend(calcs: Sequence[str]) -> Json:
    return {
        "calcs": list(calcs),
        "displayMode": "table" if calcs else "list",
        "placement": "bottom",
        "showLegend": True,
    }


def _fixed(colors: Mapping[str, str]) -> list[Json]:
    return [
        _override(name, color={"mode": "fixed", "fixedColor": color})
        for name, color in colors.items()
    ]


def _override(name: str, **properties: Any) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }
