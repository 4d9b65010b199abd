"""The error message for packages that are missing from this Python."""

import shlex
import sys


def missing_package_message(exc: ImportError) -> str:
    """Return a message with the command to run, for a Python that is not the one of `.venv`."""
    version = "{}.{}".format(*sys.version_info)
    command = shlex.join([".venv/bin/python", *sys.argv])
    return (
        f"{sys.executable} (Python {version}) lacks the package {exc.name}, or its required "
        f"version: run `make install`, and then `{command}`"
    )
