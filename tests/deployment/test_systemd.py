"""What systemd says of the units: `make test-deployment`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
EXPOSURE = 15
"""In tenths, of 100: the service must reach PostgreSQL and its clients over the network."""


def systemd_analyze(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("systemd-analyze")
    assert program, "systemd-analyze is missing: install Debian's systemd"
    return subprocess.run([program, *arguments], capture_output=True, text=True)


def installed(unit: Path, folder: Path) -> Path:
    """The unit, with a Python and a program that are on this machine."""
    text = unit.read_text().replace("/opt/analytics-service/.venv/bin/python", sys.executable)
    file = folder / unit.name
    file.write_text(text.replace("/opt/analytics-service/", f"{ROOT}/"))
    return file


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    done = systemd_analyze("verify", "--man=no", installed(unit, tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_wrong_directive_is_found(tmp_path: Path) -> None:
    file = installed(UNITS[0], tmp_path)
    file.write_text(file.read_text().replace("MemoryMax=", "MemoryMost="))
    assert "MemoryMost" in systemd_analyze("verify", "--man=no", file).stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_is_exposed_to_little(unit: Path) -> None:
    done = systemd_analyze("security", "--offline=yes", f"--threshold={EXPOSURE}", unit)
    assert done.returncode == 0, done.stdout
