"""Options that several commands share."""

from zoneinfo import ZoneInfo

import click

from services.ingest.validation import FIELDS
from utils.time.zones import zone, zone_names


def mapping(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """The column of each field, from options of the form FIELD=COLUMN."""
    pairs = [text.partition("=") for text in values]
    for name, _, column in pairs:
        if name not in FIELDS or not column:
            raise click.BadParameter(f"use FIELD=COLUMN with a field of {', '.join(FIELDS)}")
    names = {name: column for name, _, column in pairs}
    columns = [names.get(name, name) for name in FIELDS]
    if len(names) < len(pairs) or len(set(columns)) < len(columns):
        raise click.BadParameter("map each field to one column, and each column to one field")
    return names


def time_zone(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> ZoneInfo | None:
    if value is not None and value not in zone_names():
        raise click.BadParameter("use an IANA time zone, such as Europe/Berlin")
    return zone(value) if value else None
