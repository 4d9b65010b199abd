"""One version, wherever it is asked for."""

import platform
import re
import subprocess
import sys
from pathlib import Path

import httpx
from psycopg2.extensions import libpq_version

from config.settings import Settings
from main import create_app
from tests.live_server import scrape, value
from utils.version import version

ROOT = Path(__file__).parents[2]


def test_the_program_tells_its_version(tmp_path: Path) -> None:
    """Wherever it is called from, and without any server."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Analytics Service 0.2.0\n"


def test_the_version_stands_in_one_place() -> None:
    """What else bears it, such as the image, is compared in tests/contract/test_containers.py."""
    assert version() == "0.2.0"
    code = [*ROOT.glob("*.py"), *(path for name in ("commands", "routes", "services", "repo",
            "common", "config", "utils") for path in (ROOT / name).rglob("*.py"))]  # fmt: skip
    assert [path for path in code if version() in path.read_text()] == []


def test_the_description_of_the_api_bears_it() -> None:
    assert create_app(Settings()).openapi()["info"]["version"] == "0.2.0"


def test_the_metrics_tell_what_runs(service: httpx.Client) -> None:
    page = scrape(service)
    major, minor = divmod(libpq_version(), 10_000)
    labels = f'libpq="{major}.{minor}",python="{platform.python_version()}",version="0.2.0"'
    (series,) = re.findall(r"^analytics_build_info\{.*\}", page, re.MULTILINE)
    assert series == f"analytics_build_info{{{labels}}}"
    assert value(page, series) == 1
