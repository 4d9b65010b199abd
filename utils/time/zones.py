"""IANA time zones of the pinned `tzdata` package, so that answers do not depend on the machine."""

from datetime import datetime, timedelta
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from zoneinfo import ZoneInfo

# Another version may move the limits of local days, so cached responses and triggers name theirs.
TZDATA_VERSION = version("tzdata")


@cache
def zone_names() -> frozenset[str]:
    """Return the allowed names."""
    # Names come from requests, and become paths of files: only these are ever opened.
    return frozenset(files("tzdata").joinpath("zones").read_text().split())


@cache
def zone(name: str) -> ZoneInfo:
    """Return the zone of this name. Raises: KeyError for a name outside `zone_names()`."""
    if name not in zone_names():
        raise KeyError(name)
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def offset(instant: datetime, tz: ZoneInfo) -> timedelta:
    """Return how far the zone is ahead of UTC at `instant`."""
    utc_offset = instant.astimezone(tz).utcoffset()
    assert utc_offset is not None, "a ZoneInfo has an offset at every instant"
    return utc_offset
