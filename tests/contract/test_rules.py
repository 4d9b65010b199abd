"""The rules for Prometheus: they ask for what there is, and each alert says what to do."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.for_each import for_each
from tests.live_server import scrape

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
RULES: list[dict[str, Any]] = [
    rule
    for file in sorted((ROOT / "prometheus" / "rules").glob("*.yml"))
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
NAMES = sorted({alert["alert"] for alert in ALERTS})
OF_PROMETHEUS = {"job", "instance"}


def selectors(expression: Any) -> Iterator[Any]:
    """What an expression asks for, however deep."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    parts = [getattr(expression, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    for part in [*parts, *getattr(expression, "args", ())]:
        if part is not None:
            yield from selectors(part)


def label_names(service: httpx.Client) -> dict[str, set[str]]:
    """The labels of each series that the service shows; those without samples have none."""
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(scrape(service)):
        names = [family.name, f"{family.name}_total", f"{family.name}_count"]
        labels |= {name: set() for name in names}
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def test_what_rules_ask_for_is_shown(shared_service: httpx.Client) -> None:
    answer = shared_service.get(
        "/analytics/event-counts?last=3d", headers={"Cache-Control": "no-cache"}
    )
    assert answer.json()["meta"]["source"] == "rollups"
    exported = label_names(shared_service)
    for rule in RULES:
        for selector in selectors(promql_parser.parse(rule["expr"])):
            used_labels = {matcher.name for matcher in selector.matchers.matchers} - OF_PROMETHEUS
            if selector.name == "up":
                continue
            assert selector.name in exported | RECORDED, f"nobody shows {selector.name}"
            assert used_labels <= exported.get(selector.name, set()), (
                f"{selector.name} has no such label"
            )


def test_the_edge_of_the_objective_is_a_bound(shared_service: httpx.Client) -> None:
    shared_service.get("/analytics/event-counts?last=3d", headers={"Cache-Control": "no-cache"})
    for expression in RECORDED.values():
        for name, edge in re.findall(r'(\w+_bucket)\{[^}]*(le="[^"]+")', expression):
            assert re.search(rf"^{name}{{[^}}]*{edge}", scrape(shared_service), re.MULTILINE)


def test_windows_differ_in_nothing_else() -> None:
    for kind in ("requests_failed:ratio_rate", "questions_slow:ratio_rate"):
        of_kind = {
            name.removeprefix(f"analytics:{kind}"): expression
            for name, expression in RECORDED.items()
            if kind in name
        }
        assert set(of_kind) == {"5m", "30m", "1h", "6h", "3d"}
        assert len({text.replace(f"[{window}]", "") for window, text in of_kind.items()}) == 1


def test_recorded_names_tell_whose_they_are() -> None:
    assert RECORDED
    assert all(re.fullmatch(r"analytics:\w+:\w+", name) for name in RECORDED)


@for_each(NAMES)
def test_an_alert_says_how_urgent_it_is_and_where_to_read(name: str) -> None:
    for alert in (alert for alert in ALERTS if alert["alert"] == name):
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"]["summary"].endswith(".")
        assert alert["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"


def test_each_alert_has_its_section_and_each_section_its_alert() -> None:
    sections = re.findall(r"^### (Analytics\w+)$", OPERATIONS, re.MULTILINE)
    assert sorted(sections) == NAMES


@for_each(NAMES)
def test_a_section_tells_what_it_means_what_to_look_at_and_what_to_do(name: str) -> None:
    (section,) = re.findall(
        rf"^### {name}\n\n(.*?)(?=^##|\Z)", OPERATIONS, re.DOTALL | re.MULTILINE
    )
    assert re.findall(r"\*\*(\w+)\*\*", section) == ["Means", "Look", "Do"]
