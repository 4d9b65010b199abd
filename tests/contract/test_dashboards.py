"""The dashboards are what Grafana reads without a word: it shows a broken one as an empty one."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.dashboards.macros import DashboardView, expand_macros
from tests.for_each import for_each
from tools.dashboards.__main__ import dashboards, to_json
from tools.dashboards.queries import Json

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana"
SCHEMAS = ROOT / "tests" / "data" / "grafana-schema"
BOARDS = dashboards()
SOURCES = {"prometheus", "postgres"}


def schema(name: str) -> Json:
    parsed: Json = json.loads((SCHEMAS / f"{name}.jsonschema.json").read_text())
    return parsed


def wrong(schema: Json, value: object) -> list[str]:
    from jsonschema import Draft7Validator  # takes more than a second, for few tests

    errors = Draft7Validator(schema).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in errors]


def panels(board: Json) -> list[Json]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


PANELS = [panel for board in BOARDS.values() for panel in panels(board)]
TARGETS = [target for panel in PANELS for target in panel["targets"]]


@pytest.mark.parametrize("name", BOARDS)
def test_what_is_committed_is_what_the_code_makes(name: str) -> None:
    committed = (GRAFANA / "dashboards" / f"{name}.json").read_text()
    assert committed == to_json(BOARDS[name]), "run `make dashboards`"


def test_there_are_no_others() -> None:
    assert {file.stem for file in (GRAFANA / "dashboards").iterdir()} == set(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_follows_the_schema(name: str) -> None:
    strict = schema("dashboard")
    # Both may be any value, which the schema tells as an object.
    strict["definitions"]["MatcherConfig"]["properties"]["options"] = {}
    strict["definitions"]["DynamicConfigValue"]["properties"]["value"] = {}
    assert wrong(strict, BOARDS[name]) == []


@for_each(PANELS)
def test_a_panel_follows_the_schema_of_its_kind(panel: Json) -> None:
    definitions = schema(panel["type"])["definitions"]
    for name, value in (
        ("Options", panel["options"]),
        ("FieldConfig", panel["fieldConfig"]["defaults"].get("custom")),
    ):
        if value is not None:
            strict = {"definitions": definitions, "$ref": f"#/definitions/{name}"}
            assert wrong(strict, value) == []


@for_each(PANELS)
def test_a_panel_explains_itself(panel: Json) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["title"]
    assert re.fullmatch(r"[A-Za-z0-9].*\.", panel["description"], re.DOTALL), "end with a sentence"
    assert defaults["noValue"]
    known_units = {
        unit["const"] for unit in schema("units")["definitions"].values() if "const" in unit
    }
    overrides = panel["fieldConfig"]["overrides"]
    units = [each["value"] for o in overrides for each in o["properties"] if each["id"] == "unit"]
    assert {defaults["unit"], *units} <= known_units


@for_each(PANELS)
def test_thresholds_rise(panel: Json) -> None:
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {"steps": []})["steps"]
    values = [step["value"] for step in steps]
    assert values == [None, *sorted(values[1:])] or not values


@pytest.mark.parametrize("name", BOARDS)
def test_panels_fill_the_grid_and_do_not_overlap(name: str) -> None:
    occupied: set[tuple[int, int]] = set()
    grid_cells = [panel["gridPos"] for panel in BOARDS[name]["panels"]]
    for cell in grid_cells:
        assert cell["x"] + cell["w"] <= 24
        cells = {(cell["x"] + x, cell["y"] + y) for x in range(cell["w"]) for y in range(cell["h"])}
        assert not cells & occupied
        occupied |= cells
    assert len(occupied) == 24 * max(place["y"] + place["h"] for place in grid_cells)


def test_nothing_is_left_for_an_import_to_fill_in() -> None:
    for name, board in BOARDS.items():
        text = to_json(board)
        assert not re.search(r"\$\{DS_|__inputs|__requires", text), name
        assert board["id"] is None
        assert {source["uid"] for source in values_of(board, "datasource")} <= SOURCES
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)


def values_of(value: Any, key: str) -> Iterator[Any]:
    """All that stands under a key, however deep."""
    if isinstance(value, dict):
        if key in value:
            yield value[key]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from values_of(each, key)


@for_each(TARGETS)
def test_a_query_can_be_read(target: Json) -> None:
    if "expr" in target:
        assert wrong(schema("prometheus"), target) == []
        promql_parser.parse(expand_macros(target, DashboardView.example()))
    else:
        assert target["rawSql"].startswith("/* ")
        assert "$" not in expand_macros(target, DashboardView.example())


def test_sources_have_the_ids_that_panels_ask_for() -> None:
    (file,) = (GRAFANA / "provisioning" / "datasources").glob("*.yml")
    sources = yaml.safe_load(file.read_text())["datasources"]
    kinds = {(source["uid"], source["type"]) for source in sources}
    used = [each for board in BOARDS.values() for each in values_of(board, "datasource")]
    assert kinds == {(source["uid"], source["type"]) for source in used}
    assert all(source["editable"] is False for source in sources)


def test_the_provider_reads_the_folder_of_the_dashboards() -> None:
    (file,) = (GRAFANA / "provisioning" / "dashboards").glob("*.yml")
    (provider,) = yaml.safe_load(file.read_text())["providers"]
    assert provider["options"] == {"path": "/etc/grafana/dashboards"}


def test_every_dollar_of_provisioning_is_a_variable() -> None:
    """Grafana replaces what follows a `$`; a password with one is its own matter."""
    for file in (GRAFANA / "provisioning").glob("*/*.yml"):
        for name in re.findall(r"\$(\S*)", re.sub(r"#.*", "", file.read_text())):
            assert re.fullmatch(r"\{[A-Z_]+\}", name)


def test_dashboards_need_nothing_of_the_service() -> None:
    for file in (ROOT / "tools" / "dashboards").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] in {
                    "tools", "collections", "dataclasses", "pathlib", "typing",
                }  # fmt: skip
