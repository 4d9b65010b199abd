"""How many files a request walks through: a change may lower the figures, never raise them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Files entered, and changes from one file to another. Lower them when the code gets simpler.
LIMITS = {
    "event-counts, uncached": (42, 186),
    "event-counts, cached": (7, 21),
    "history, uncached": (27, 109),
    "POST /events": (17, 50),
}


@pytest.fixture(scope="module")
def table() -> dict[str, tuple[int, int, int]]:
    """Status, files and changes of each request, as `python -m tools.trip` prints them."""
    output = subprocess.check_output([sys.executable, "-m", "tools.trip"], cwd=ROOT, text=True)
    _, *lines = output.splitlines()
    table = {}
    for line in lines:
        status, files, changes = map(int, line[24:].split())
        table[line[:24].strip()] = (status, files, changes)
    return table


@pytest.mark.parametrize("request_name", LIMITS)
def test_the_number_of_files_a_request_passes_through_is_limited(
    table: dict[str, tuple[int, int, int]], request_name: str
) -> None:
    status, files, changes = table[request_name]
    max_files, max_changes = LIMITS[request_name]
    assert status == 200
    assert files <= max_files
    assert changes <= max_changes
