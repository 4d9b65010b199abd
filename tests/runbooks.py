"""Runs the commands of docs/operations.md in a shell."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.embedded.binaries import child_user

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "operations.md"

_PART = re.compile(r"^#+ (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# `python main.py` means this checkout and its Python, in any working directory.
_PYTHON = 'python() { script=$1; shift; "$PYTHON" "$ROOT/$script" "$@"; }\n'


def blocks() -> dict[str, list[str]]:
    """The command blocks by heading."""
    _, *parts = _PART.split(PAGE.read_text())
    texts_by_heading = {
        name: _BLOCK.findall(text) for name, text in zip(parts[::2], parts[1::2], strict=True)
    }
    return {name: texts for name, texts in texts_by_heading.items() if texts}


@dataclass(frozen=True)
class Shell:
    """A shell with these PostgreSQL programs and environment variables."""

    folder: Path
    programs: Path
    variables: dict[str, str]

    def run(self, block: str, *, as_server: bool = False, fails: bool = False) -> str:
        """Run a block; returns its output. `as_server` runs it as the user of PostgreSQL."""
        result = subprocess.run(
            self._command(block),
            env=self._environment(),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            **(child_user() if as_server else {}),
        )
        printed: str = result.stdout
        assert result.returncode == (1 if fails else 0), f"{block}\n{printed}"
        return printed

    @contextmanager
    def serving(self, block: str) -> Iterator[str]:
        """Run a block that ends with `serve`; yields the URL of the service."""
        process = subprocess.Popen(
            self._command(block),
            env=self._environment() | {"ANALYTICS_PORT": "0"},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            yield next(
                line.split()[-1][: -len("/docs")] for line in process.stdout if "/docs" in line
            )
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.stdout.close()
            process.wait(20)

    def _command(self, block: str) -> list[str]:
        return ["bash", "-euo", "pipefail", "-c", _PYTHON + block]

    def _environment(self) -> dict[str, str]:
        path = f"{self.programs}:{os.environ['PATH']}"
        ours = {"PYTHON": sys.executable, "ROOT": str(ROOT), "PATH": path, "HOME": str(self.folder)}
        return {**os.environ, **ours, **self.variables}
