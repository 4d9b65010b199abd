"""The default data directory, and checks for terminals and loopback addresses."""

import os
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TextIO

APP = "analytics-service"


def default_data_dir() -> Path:
    """Return the directory for the data of the current user."""
    # Root's embedded servers run as another user, who cannot read root's home directory.
    if os.geteuid() == 0:
        return Path("/var/lib") / APP
    return Path.home() / ".local" / "share" / APP


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether the stream is open and is a terminal."""
    with suppress(ValueError, OSError):
        return stream is not None and stream.isatty()
    return False


def is_loopback(host: str) -> bool:
    """Return whether a host name or address always means this machine."""
    with suppress(ValueError):
        return host == "localhost" or ip_address(host).is_loopback
    return False
