"""Draws a dashboard as a picture: each panel at its place in the grid, with its query results."""

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.dates as mdates
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from tests.dashboards.panel_data import Result, Series
from tests.dashboards.units import format_value
from tools.dashboards.queries import Json

Answers = Mapping[int, Sequence[Result]]
"""The results of all queries of each panel, by panel id."""

_COLUMN, _ROW, _GAP = 50, 34, 6  # pixels
_DPI = 100
_TEXT, _MUTED, _GRID = "#24292e", "#6b7480", "#e6e8eb"
_COLORS = {
    "green": "#56a64b", "light-green": "#96d98d", "orange": "#ff780a", "red": "#e02f44",
    "blue": "#3274d9", "light-blue": "#8ab8ff", "purple": "#a352cc", "light-purple": "#ca95e5",
    "yellow": "#f2cc0c", "transparent": "#ffffff",
}  # fmt: skip
_CLASSIC = (
    "#7EB26D", "#EAB839", "#6ED0E0", "#EF843C", "#E24D42", "#1F78C1", "#BA43A9", "#705DA0",
    "#508642", "#CCA300", "#447EBC", "#C15C17",
)  # fmt: skip
_CALCS: dict[str, tuple[str, Callable[[list[float]], float]]] = {
    "lastNotNull": ("Last *", lambda values: values[-1]),
    "max": ("Max", max),
    "mean": ("Mean", lambda values: sum(values) / len(values)),
    "sum": ("Total", sum),
}

mpl.use("Agg")
mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 7.5, "text.color": _TEXT})


def draw(board: Json, answers: Answers, file: Path) -> None:
    """Write a PNG with a palette of 256 colours, which keeps the file small."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    size = (24 * _COLUMN + _GAP, rows * _ROW + _GAP)
    figure = Figure(figsize=(size[0] / _DPI, size[1] / _DPI), dpi=_DPI, facecolor="#f4f5f5")
    for panel in board["panels"]:
        _Panel(figure, size, panel).draw(answers.get(panel["id"], ()))
    image = io.BytesIO()
    figure.savefig(image, format="png")
    Image.open(image).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        file, optimize=True
    )


class _Panel:
    def __init__(self, figure: Figure, size: tuple[int, int], panel: Json) -> None:
        self._figure, self._size, self._panel = figure, size, panel
        grid = panel["gridPos"]
        self._x, self._y = grid["x"] * _COLUMN + _GAP, grid["y"] * _ROW + _GAP
        self._w, self._h = grid["w"] * _COLUMN - _GAP, grid["h"] * _ROW - _GAP
        self._defaults: Json = panel.get("fieldConfig", {}).get("defaults", {})
        self._unit: str = self._defaults.get("unit", "none")

    def draw(self, results: Sequence[Result]) -> None:
        if self._panel["type"] == "row":
            self._write(4, 20, f"⌄  {self._panel['title']}", size=9, weight="bold")
            return
        card = self._axes(0, 0, self._w, self._h)
        card.add_patch(Rectangle((0, 0), 1, 1, facecolor="white", edgecolor=_GRID, linewidth=1.5))
        self._write(9, 17, self._panel["title"], size=8, weight="bold")
        series = [line for result in results for line in result.series if line.last is not None]
        columns = results[0].columns if results else {}
        kind = self._panel["type"]
        if not series and not any(columns.values()):
            self._write(
                self._w / 2, self._h / 2 + 10, self._defaults["noValue"], ha="center", size=11
            )
        elif kind == "stat":
            self._stat(series, columns)
        elif kind == "timeseries":
            self._lines(series)
        elif kind == "barchart":
            self._ranking(columns)
        else:
            self._table(columns)

    def _axes(self, x: float, y: float, w: float, h: float) -> Axes:
        """Axes without frame and ticks, in pixels from the upper left corner of the panel."""
        width, height = self._size
        rectangle = (
            (self._x + x) / width,
            1 - (self._y + y + h) / height,
            w / width,
            h / height,
        )
        axes = self._figure.add_axes(rectangle)
        axes.axis("off")
        return axes

    def _write(self, x: float, y: float, text: str, **style: Any) -> None:
        width, height = self._size
        at = ((self._x + x) / width, 1 - (self._y + y) / height)
        self._figure.text(*at, text, **{"size": 7.5, **style})

    def _stat(self, series: Sequence[Series], columns: dict[str, list[Any]]) -> None:
        numbers = [(line.name, line.last) for line in series]
        if columns:
            numbers = [("value", next(iter(columns.values()))[0])]
        if series and self._panel["options"]["graphMode"] == "area":
            self._spark(series[0])
        width = self._w / len(numbers)
        for at, (name, value) in enumerate(numbers):
            text, color = self._text_and_color(value)
            middle = at * width + width / 2
            size = min(17, 1.1 * width / len(text))
            self._write(middle, self._h * 0.68, text, ha="center", size=size, color=color)
            if len(numbers) > 1:
                self._write(middle, self._h - 12, name, ha="center", color=_MUTED)

    def _text_and_color(self, value: float | None) -> tuple[str, str]:
        """The text of a value, and its colour by the thresholds of the panel."""
        for mapping in self._defaults.get("mappings", ()):
            if value is not None and (display := mapping["options"].get(f"{value:.0f}")):
                return display["text"], _color(display["color"])
        color = "transparent"
        for step in self._defaults["thresholds"]["steps"]:
            if step["value"] is None or (value is not None and float(value) >= step["value"]):
                color = step["color"]
        return format_value(value, self._unit, self._defaults.get("decimals")), _color(color)

    def _spark(self, line: Series) -> None:
        values = [value for _, value in line.points if value is not None]
        axes = self._axes(4, self._h * 0.72, self._w - 8, self._h * 0.26)
        color = self._text_and_color(line.last)[1]
        axes.plot(values, color=color, linewidth=1)
        axes.fill_between(range(len(values)), values, min(values), color=color, alpha=0.15, lw=0)

    def _lines(self, series: Sequence[Series]) -> None:
        colors = self._colors([line.name for line in series])
        legend = self._legend(series, colors)
        axes = self._axes(60, 28, self._w - 80, self._h - 28 - 20 - legend)
        axes.axis("on")
        self._plot(axes, series, colors)
        self._dress(axes, series)
        if self._defaults["custom"]["thresholdsStyle"]["mode"] == "dashed":
            self._limit(axes)

    def _plot(self, axes: Axes, series: Sequence[Series], colors: Sequence[str]) -> None:
        custom = self._defaults["custom"]
        stacked, bars = custom["stacking"]["mode"] == "normal", custom["drawStyle"] == "bars"
        times = sorted({moment for line in series for moment, _ in line.points})
        at = mdates.date2num(times)  # type: ignore[no-untyped-call]
        base, below = np.zeros(len(times)), np.zeros(len(times))
        for line, color in zip(series, colors, strict=True):
            points = dict(line.points)
            values = np.array([_float(points.get(moment)) for moment in times])
            if bars:
                width = 0.85 * float(np.diff(at).min()) if len(at) > 1 else 0.01
                heights = np.nan_to_num(values)
                under = np.where(heights < 0, below, base)
                axes.bar(at, heights, width, bottom=under, color=color, alpha=0.8, linewidth=0)
                base, below = base + heights.clip(0), below + heights.clip(max=0)
            elif stacked:
                top = base + np.nan_to_num(values)
                axes.fill_between(at, base, top, color=color, alpha=0.35, linewidth=0)
                axes.plot(at, top, color=color, linewidth=1.2)
                base = top
            else:
                axes.fill_between(at, values, 0, color=color, alpha=0.07, linewidth=0)
                axes.plot(at, values, color=color, linewidth=1.5)

    def _limit(self, axes: Axes) -> None:
        """Draw the limit, unless it is so far away that it would flatten the lines."""
        at = self._defaults["thresholds"]["steps"][1]["value"]
        if at <= axes.get_ylim()[1]:
            axes.axhline(at, color=_COLORS["red"], linewidth=1, linestyle=(0, (6, 4)))

    def _dress(self, axes: Axes, series: Sequence[Series]) -> None:
        bottom, top = axes.get_ylim()
        bottom = 0 if "min" in self._defaults else bottom
        is_flat = not any(value for line in series for _, value in line.points)
        axes.set_ylim(bottom, self._defaults.get("max", 1 if is_flat else top))
        axes.margins(x=0.01)
        axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(lambda value, _: format_value(value, self._unit))
        locator = mdates.AutoDateLocator(minticks=3, maxticks=6)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(_times(axes))
        axes.tick_params(colors=_MUTED, labelsize=7, length=0)
        axes.grid(color=_GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        for spine in axes.spines.values():
            spine.set_visible(False)

    def _legend(self, series: Sequence[Series], colors: Sequence[str]) -> float:
        """Draw the legend; return its height in pixels."""
        calcs = self._panel["options"]["legend"]["calcs"]
        rows = list(zip(series, colors, strict=True))[:6]
        height = 13 * (len(rows) + bool(calcs)) + 4
        top = self._h - height + 6
        columns = [self._w - 14 - 76 * n for n in range(len(calcs))][::-1]
        for x, name in zip(columns, calcs, strict=True):
            self._write(x, top + 3, _CALCS[name][0], ha="right", size=7, color=_COLORS["blue"])
        for at, (line, color) in enumerate(rows, bool(calcs)):
            y = top + 13 * at + 3
            self._write(12, y, "▬", color=color, size=8)
            self._write(26, y, textwrap.shorten(line.name, 42), size=7)
            values = [value for _, value in line.points if value is not None]
            for x, name in zip(columns, calcs, strict=True):
                text = format_value(
                    _CALCS[name][1](values), self._unit, self._defaults.get("decimals")
                )
                self._write(x, y, text, ha="right", size=7)
        return height

    def _colors(self, names: Sequence[str]) -> list[str]:
        fixed = {
            override["matcher"]["options"]: prop["value"]["fixedColor"]
            for override in self._panel["fieldConfig"]["overrides"]
            for prop in override["properties"]
            if prop["id"] == "color"
        }
        return [
            _color(fixed[name]) if name in fixed else _CLASSIC[at % len(_CLASSIC)]
            for at, name in enumerate(names)
        ]

    def _ranking(self, columns: dict[str, list[Any]]) -> None:
        names = columns[self._panel["options"]["xField"]][:14][::-1]
        values = columns["Value"][:14][::-1]
        axes = self._axes(120, 28, self._w - 180, self._h - 36)
        axes.axis("on")
        axes.barh(names, values, color=_color(self._defaults["color"]["fixedColor"]), height=0.7)
        for at, value in enumerate(values):
            axes.text(value, at, f" {format_value(value, self._unit)}", va="center", size=7)
        axes.set_xticks([])
        axes.tick_params(length=0, labelsize=7)
        for spine in axes.spines.values():
            spine.set_visible(False)

    def _table(self, columns: dict[str, list[Any]]) -> None:
        units, gauges = _of_columns(self._panel)
        width = (self._w - 20) / len(columns)
        max_rows = int((self._h - 50) / 22)
        for column, (name, values) in enumerate(columns.items()):
            x, unit = 12 + column * width, units.get(name, self._unit)
            self._write(x, 42, name, color=_COLORS["blue"], weight="bold")
            maximum = max((float(v) for v in values if name in gauges), default=0)
            for row, value in enumerate(values[:max_rows]):
                y = 62 + 22 * row
                if maximum:
                    bar = self._axes(x + 56, y - 9, (width - 70) * float(value) / maximum, 10)
                    bar.add_patch(Rectangle((0, 0), 1, 1, color=_COLORS["blue"], alpha=0.6))
                self._write(x, y, format_value(value, unit))
        for row in range(min(max_rows, len(values)) + 1):
            line = self._axes(8, 47 + 22 * row, self._w - 16, 1)
            line.add_patch(Rectangle((0, 0), 1, 1, color=_GRID))


def _of_columns(panel: Json) -> tuple[dict[str, str], set[str]]:
    """The units of columns that override the default, and the names of columns with bars."""
    units, gauges = {}, set()
    for override in panel["fieldConfig"]["overrides"]:
        for prop in override["properties"]:
            if prop["id"] == "unit":
                units[override["matcher"]["options"]] = prop["value"]
            elif prop["id"] == "custom.cellOptions":
                gauges.add(override["matcher"]["options"])
    return units, gauges


def _times(axes: Axes) -> mdates.DateFormatter:
    start, end = axes.get_xlim()
    days = end - start
    form = "%m/%d" if days > 2 else "%H:%M" if days > 0.02 else "%H:%M:%S"
    return mdates.DateFormatter(form)  # type: ignore[no-untyped-call]


def _color(name: str) -> str:
    return _COLORS.get(name, name)


def _float(value: float | None) -> float:
    return float("nan") if value is None else value
