"""Command lines of this service, for messages that say what to run."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from config.settings import variable

_MAIN = Path(__file__).parents[1] / "main.py"


def invocation(arguments: str) -> str:
    """A command line of the service that can be pasted into the current shell.

    For example `.venv/bin/python main.py migrate`, or `python main.py migrate` if the virtual
    environment is active. ANALYTICS_COMMAND replaces the part before the arguments.
    """
    return f"{os.environ.get(variable('command')) or _program()} {arguments}"


def _program() -> str:
    return f"{shlex.quote(_python())} {shlex.quote(_from_here(_MAIN))}"


def _python() -> str:
    """The name of the Python executable if the shell finds it by name, else its path."""
    python = Path(sys.executable or "python3")
    return python.name if shutil.which(python.name) == str(python) else _from_here(python)


def _from_here(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # outside the current directory, or that one was deleted
        return str(path)
