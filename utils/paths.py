"""Where things lie on a machine, and what it calls itself."""

import os
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TextIO

APP = "analytics-service"


def default_data_dir() -> Path:
    """The folder for data of this user.

    Root's home is closed to the user that the embedded servers run as, so root's lies elsewhere.
    """
    if os.geteuid() == 0:
        return Path("/var/lib") / APP
    return Path.home() / ".local" / "share" / APP


def is_terminal(stream: TextIO | None) -> bool:
    """Whether people read what is written there, as far as can be told."""
    with suppress(ValueError, OSError):
        return stream is not None and stream.isatty()
    return False


def is_loopback(host: str) -> bool:
    """Whether this name or address always means the machine itself."""
    with suppress(ValueError):
        return host == "localhost" or ip_address(host).is_loopback
    return False
