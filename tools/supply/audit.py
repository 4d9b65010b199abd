"""Checks the pinned packages for known vulnerabilities: `python -m tools.supply.audit`."""

import json
import subprocess
import sys
from typing import Any

from tools.supply.packages import ROOT

_TIMEOUT_S = 60
_UNREACHABLE = ("ConnectionError", "ServiceError", "Timeout", "Max retries", "resolve", "HTTPError")


def main() -> int:
    """Print the result. The exit code is 0 if the vulnerability database cannot be reached."""
    try:
        fails, text = verdict(_report("requirements/run.txt"))
    except AuditFailed as exc:
        fails, text = True, f"The check itself failed: {exc}"
    sys.stdout.write(text + "\n")
    return int(fails)


class AuditFailed(Exception):
    """pip-audit failed for another reason than a missing network."""


def _report(file: str) -> dict[str, Any] | None:
    """The report of pip-audit; None if its database cannot be reached. Raises: AuditFailed."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", file, "--no-deps"]
    options = ["--disable-pip", "--format=json", "--progress-spinner=off", "--timeout=10"]
    try:
        done = subprocess.run(
            [*command, *options], cwd=ROOT, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return parse_report(done.stdout, done.stderr.decode())


def parse_report(stdout: bytes, stderr: str) -> dict[str, Any] | None:
    """The parsed report; None if the database could not be reached. Raises: AuditFailed."""
    if not stdout.strip() and any(word in stderr for word in _UNREACHABLE):
        return None
    try:
        report: dict[str, Any] = json.loads(stdout)
    except ValueError:
        raise AuditFailed(stderr.strip()[-500:]) from None
    return report


def verdict(report: dict[str, Any] | None) -> tuple[bool, str]:
    """Whether the check fails, and the text to print. Skipped packages count as not checked."""
    packages = report["dependencies"] if report else []
    checked = [package for package in packages if "vulns" in package]
    if not checked:
        return False, "Not checked: the vulnerability database cannot be reached."
    vulnerable = [line for package in checked for line in _vulnerabilities(package)]
    if vulnerable:
        return True, "\n".join(vulnerable)
    missing = len(packages) - len(checked)
    suffix = f"; {missing} could not be checked" if missing else ""
    return False, f"No known vulnerability in {len(checked)} packages{suffix}."


def _vulnerabilities(package: dict[str, Any]) -> list[str]:
    return [
        f"{package['name']} {package['version']}: {vulnerability['id']}, "
        f"fixed in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for vulnerability in package["vulns"]
    ]


if __name__ == "__main__":
    sys.exit(main())
