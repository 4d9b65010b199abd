"""How the commands are called here, for messages that tell what to run next."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from config.settings import variable

_MAIN = Path(__file__).parents[1] / "main.py"


def invocation(arguments: str) -> str:
    """A command of the service as it can be pasted into this shell.

    In a checkout `.venv/bin/python main.py migrate`, where its `.venv` is active `python main.py
    migrate`. ANALYTICS_COMMAND takes the place of what stands before the arguments.
    """
    return f"{os.environ.get(variable('command')) or _program()} {arguments}"


def _program() -> str:
    return f"{shlex.quote(_python())} {shlex.quote(_from_here(_MAIN))}"


def _python() -> str:
    """Its name is enough where it is the one that the shell finds."""
    python = Path(sys.executable or "python3")
    return python.name if shutil.which(python.name) == str(python) else _from_here(python)


def _from_here(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # elsewhere, or the folder that this was called in is gone
        return str(path)
