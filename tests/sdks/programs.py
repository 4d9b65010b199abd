"""Runs programs of the documentation against a service, in the environment of `make test-sdks`."""

import subprocess
from pathlib import Path
from typing import Any

import httpx

from tests.pages import BASE, ROOT, blocks
from tests.servers import KEY

FOLDER = ROOT / "build" / "sdks" / "bin"
PYTHON = FOLDER / "python"
NODE_MODULES = ROOT / "build" / "sdks" / "node" / "node_modules"


def program(page: Path, heading: str, language: str) -> str:
    """The first block of this language under a heading."""
    return next(
        block.text
        for block in blocks(page)
        if (block.heading, block.language) == (heading, language)
    )


def run_program(service: httpx.Client, command: list[Any], text: str, **other: str) -> str:
    """The output of a program on standard input, with the address and the key of the tests."""
    for written, meant in {BASE: str(service.base_url), "ask_...": KEY, **other}.items():
        text = text.replace(written, meant)
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=NODE_MODULES.parent,  # where `import` finds packages
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
