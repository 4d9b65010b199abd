"""What promtool says of the rules: `make test-rules`."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
RULES = sorted((HERE.parents[1] / "prometheus" / "rules").glob("*.yml"))
TESTS = sorted(HERE.glob("*.yml"))


def promtool(*arguments: str | Path) -> str:
    """What it printed; it must have found nothing wrong."""
    program = shutil.which("promtool")
    assert program, "promtool is missing: install Debian's prometheus"
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_rules() -> None:
    assert promtool("check", "rules", *RULES).count("SUCCESS") == len(RULES) == 2


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should_and_else_are_silent(file: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", file)


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_what_is_recorded_comes_before_what_reads_it(file: Path) -> None:
    groups = [group for rules in RULES for group in yaml.safe_load(rules.read_text())["groups"]]
    recording = {group["name"]: "record" in group["rules"][0] for group in groups}
    order = yaml.safe_load(file.read_text())["group_eval_order"]
    assert sorted(order) == sorted(recording)
    assert sorted(order, key=lambda name: not recording[name]) == order


def test_each_alert_was_seen_to_fire() -> None:
    alerts = {
        rule["alert"]
        for file in RULES
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    seen = {
        test["alertname"]
        for file in TESTS
        for case in yaml.safe_load(file.read_text())["tests"]
        for test in case.get("alert_rule_test", ())
        if test["exp_alerts"]
    }
    assert alerts == seen
