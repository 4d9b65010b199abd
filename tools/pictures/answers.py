"""Draws docs/pictures/*.svg from the answers on docs/questions.md.

`python -m tools.pictures.answers`, which `make pages` runs. A test compares the pictures with the
answers, which another test compares with the service.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tests import pages

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
PAGE = pages.DOCS / "questions.md"

_FONT = "font-family='-apple-system, Segoe UI, Helvetica, Arial, sans-serif'"
_BLUE, _DARK, _GREY, _PALE = "#2a6fb0", "#1f2328", "#656d76", "#eaeef2"
_WIDTH, _MARGIN = 680, 16
_BAR = 260
"""The width of the bar of all users who entered."""
_ROW, _CELL, _GRID_LEFT = 34, 74, 200
_WHITE_FROM = 0.55
"""The share from which the text of a cell is white."""
_STEPS = ("reported", "commit", "signed_off")


def pictures() -> dict[str, str]:
    """Return the SVG of each picture by the name of its file."""
    return {
        "funnel.svg": funnel_picture(_answer("Funnels", "step=reported"), _STEPS),
        "retention.svg": retention_picture(_answer("Retention", "periods=6")),
    }


def funnel_picture(rows: list[dict[str, str]], names: Sequence[str]) -> str:
    """Return the SVG of the steps of an answer in CSV: a bar for the users of each."""
    entered = int(rows[0]["users"])
    shapes: list[str] = []
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        users, top = int(row["users"]), _MARGIN + number * _ROW
        shapes += [
            _text(_MARGIN, top + 18, f"{row['step']}  {name}"),
            _box(150, top + 2, _BAR, _ROW - 10, _PALE),
            _box(150, top + 2, max(2, round(_BAR * users / entered)), _ROW - 10, _BLUE),
            _text(150 + _BAR + 12, top + 18, _step_text(row)),
        ]
    return _svg(2 * _MARGIN + len(rows) * _ROW, shapes)


def _step_text(row: dict[str, str]) -> str:
    if not row["of_previous"]:
        return f"{row['users']} users"
    return f"{row['users']} users, {_percent(float(row['of_previous']))} of the step before"


def retention_picture(answer: dict[str, Any]) -> str:
    """Return the SVG of an answer: a row for each cohort, a cell for each period, and the total."""
    cohorts, total = answer["data"]["cohorts"], answer["data"]["total"]
    shapes = [_text(_MARGIN, 22, "cohort", _GREY)]
    shapes += [
        _text(_GRID_LEFT + period * _CELL + _CELL // 2, 22, str(period), _GREY, "middle")
        for period in range(len(total))
    ]
    for number, cohort in enumerate(cohorts):
        label = f"{cohort['day'][:7]}, {cohort['users']} users"
        shapes += _grid_row(number, label, cohort["cells"])
    shapes += _grid_row(len(cohorts), "total", total)
    return _svg(_MARGIN + (len(cohorts) + 2) * _ROW, shapes)


def _grid_row(number: int, label: str, cells: list[dict[str, Any] | None]) -> Iterator[str]:
    top = _MARGIN + (number + 0.5) * _ROW
    yield _text(_MARGIN, top + 22, label)
    for period, cell in enumerate(cells):
        if cell and cell["share"] is not None:
            left, share = _GRID_LEFT + period * _CELL, cell["share"]
            colour = "#ffffff" if share >= _WHITE_FROM else _DARK
            yield _box(left + 2, top + 2, _CELL - 4, _ROW - 4, _BLUE, share)
            yield _text(left + _CELL // 2, top + 22, _percent(share), colour, "middle")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _text(x: float, y: float, text: str, colour: str = _DARK, anchor: str = "start") -> str:
    return (
        f"<text x='{x:g}' y='{y:g}' {_FONT} font-size='14' fill='{colour}' "
        f"text-anchor='{anchor}'>{escape(text)}</text>"
    )


def _box(x: float, y: float, width: float, height: float, colour: str, opacity: float = 1) -> str:
    return (
        f"<rect x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}' rx='3' "
        f"fill='{colour}' fill-opacity='{opacity:.2f}'/>"
    )


def _svg(height: float, shapes: list[str]) -> str:
    size = f"width='{_WIDTH}' height='{height:g}' viewBox='0 0 {_WIDTH} {height:g}'"
    background = f"<rect {size.partition(' viewBox')[0]} rx='6' fill='#ffffff'/>"
    lines = [f"<svg xmlns='http://www.w3.org/2000/svg' {size}>", background, *shapes, "</svg>"]
    return "\n".join(lines) + "\n"


def _answer(heading: str, part: str) -> Any:
    """The answer below the request of a section that has a part of an address."""
    (text, language) = next(
        (example.answer.text, example.answer.language)
        for example in pages.examples(PAGE)
        if example.heading == heading and part in example.request.text
    )
    read: Callable[[str], Any] = json.loads if language == "json" else _csv_rows
    return read(text)


def _csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def main() -> None:
    for name, svg in pictures().items():
        (PICTURES / name).write_text(svg)


if __name__ == "__main__":
    main()
