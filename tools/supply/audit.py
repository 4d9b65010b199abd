"""python -m tools.supply.audit: whether a package that the service needs has a known weakness."""

import json
import subprocess
import sys
from typing import Any

from tools.supply.packages import ROOT

_TIMEOUT_S = 60
_UNREACHABLE = ("ConnectionError", "ServiceError", "Timeout", "Max retries", "resolve", "HTTPError")


def main() -> int:
    """What is known cannot always be reached, and that is no failure: it is told."""
    try:
        fails, text = verdict(_report("requirements.txt"))
    except AuditFailed as exc:
        fails, text = True, f"The check itself failed: {exc}"
    sys.stdout.write(text + "\n")
    return int(fails)


class AuditFailed(Exception):
    """The check ended in another way than for want of a network."""


def _report(file: str) -> dict[str, Any] | None:
    """None where nothing could be asked. Raises: Broken."""
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
    """What pip-audit said. Raises: Broken."""
    if not stdout.strip() and any(word in stderr for word in _UNREACHABLE):
        return None
    try:
        report: dict[str, Any] = json.loads(stdout)
    except ValueError:
        raise AuditFailed(stderr.strip()[-500:]) from None
    return report


def verdict(report: dict[str, Any] | None) -> tuple[bool, str]:
    """Whether it fails, and why. A package that nothing is known of was not checked."""
    packages = report["dependencies"] if report else []
    checked = [package for package in packages if "vulns" in package]
    if not checked:
        return False, "Not checked: what is known of weaknesses cannot be reached."
    weak = [line for package in checked for line in _weaknesses(package)]
    if weak:
        return True, "\n".join(weak)
    missing = len(packages) - len(checked)
    suffix = f"; {missing} could not be checked" if missing else ""
    return False, f"No known weakness in {len(checked)} packages{suffix}."


def _weaknesses(package: dict[str, Any]) -> list[str]:
    return [
        f"{package['name']} {package['version']}: {weakness['id']}, "
        f"mended in {', '.join(weakness['fix_versions']) or 'no version yet'}"
        for weakness in package["vulns"]
    ]


if __name__ == "__main__":
    sys.exit(main())
