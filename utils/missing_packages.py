"""What this Python lacks, though the program needs it."""

import shlex
import sys


def missing_package_message(exc: ImportError) -> str:
    """What helps: the program was called with another Python than that of its `.venv`."""
    version = "{}.{}".format(*sys.version_info)
    command = shlex.join([".venv/bin/python", *sys.argv])
    return (
        f"{sys.executable}, Python {version}, has no {exc.name} as it is needed: "
        f"run `make install`, and then `{command}`"
    )
