"""The documents are true: what they show is answered, and what there is they tell."""

import re

import httpx
import pytest

from config.settings import Settings, variable
from main import COMMANDS, create_app
from tests import readme
from tests.running import scrape

TEXT = readme.README.read_text()
DOCS = readme.README.parent / "docs"
SETTINGS = (DOCS / "settings.md").read_text()
METRICS = (DOCS / "metrics.md").read_text()


def test_the_curl_lines_give_the_answers_that_are_printed(history: httpx.Client) -> None:
    assert readme.check(history) == 6


def test_what_is_sent_is_stored(service: httpx.Client) -> None:
    readme.send(service)


@pytest.mark.parametrize("field", Settings.model_fields)
def test_each_setting_is_told_with_its_default(field: str) -> None:
    rows = [row for row in SETTINGS.splitlines() if row.startswith(f"| `{variable(field)}` |")]
    assert len(rows) == 1, f"describe {variable(field)} in docs/settings.md"
    described = Settings.model_fields[field]
    assert rows[0].endswith(f"| {described.description} |")
    if described.default_factory is None and described.default not in (None, ""):
        default = described.default
        assert f"| `{default}` |" in rows[0]


def test_no_setting_is_told_that_is_none() -> None:
    told = set(re.findall(r"`(ANALYTICS_[A-Z_]+[A-Z])`", TEXT + SETTINGS))
    assert told <= {variable(field) for field in Settings.model_fields}


def test_each_endpoint_is_told() -> None:
    for path, operations in create_app(Settings()).openapi()["paths"].items():
        for method in operations:
            assert f"`{method.upper()} {path}`" in TEXT, f"describe {path} under Endpoints"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_told(command: str) -> None:
    assert f"`python main.py {command}" in TEXT, f"describe {command} under Commands"


def test_each_metric_is_told_and_no_other(history: httpx.Client) -> None:
    shown = set(re.findall(r"^# TYPE (\w+) ", scrape(history), re.MULTILINE))
    ours = {name for name in shown if name.startswith(("analytics_", "http_"))}
    assert set(re.findall(r"`((?:analytics|http)_\w+)`", METRICS)) == ours


@pytest.mark.parametrize("target", ["run", "test"])
def test_the_two_commands_are_targets_of_make(target: str) -> None:
    makefile = (readme.README.parent / "Makefile").read_text()
    assert f"\n{target}:" in makefile
    assert f"make {target}" in TEXT
