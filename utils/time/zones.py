"""IANA time zones, from the pinned `tzdata` package, so that every machine answers alike."""

from datetime import datetime, timedelta
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from zoneinfo import ZoneInfo

TZDATA_VERSION = version("tzdata")
"""Which rules these are: other ones move the edges of days."""


@cache
def zone_names() -> frozenset[str]:
    """The names that are allowed; a name is looked up here and never tried."""
    return frozenset(files("tzdata").joinpath("zones").read_text().split())


@cache
def zone(name: str) -> ZoneInfo:
    """Raises: KeyError for a name outside `zone_names()`."""
    if name not in zone_names():
        raise KeyError(name)
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def offset(instant: datetime, tz: ZoneInfo) -> timedelta:
    """How far the clocks of the zone are ahead of UTC at this moment."""
    utc_offset = instant.astimezone(tz).utcoffset()
    assert utc_offset is not None, "a ZoneInfo knows every offset"
    return utc_offset
