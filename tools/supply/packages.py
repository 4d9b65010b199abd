"""The pinned packages of the requirements files."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

_PINNED = re.compile(r"^([a-z0-9.-]+)==(\S+)", re.MULTILINE)


def pinned(file: str) -> dict[str, set[str]]:
    """The versions of each package in a requirements file: some depend on the Python version."""
    versions: dict[str, set[str]] = {}
    for name, version in _PINNED.findall((ROOT / file).read_text()):
        versions.setdefault(name, set()).add(version)
    return versions
