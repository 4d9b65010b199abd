"""Where things lie on a machine."""

import os
from pathlib import Path

APP = "analytics-service"


def default_data_dir() -> Path:
    """The folder for data of this user.

    Root's home is closed to the user that the embedded servers run as, so root's lies elsewhere.
    """
    if os.geteuid() == 0:
        return Path("/var/lib") / APP
    return Path.home() / ".local" / "share" / APP
