"""Options that several commands share."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import click

from services.ingest.validation import FIELDS
from utils.time.zones import zone, zone_names


def mapping(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """The column of each field, from options of the form FIELD=COLUMN."""
    names = field_values(values, FIELDS, "COLUMN")
    columns = [names.get(name, name) for name in FIELDS]
    if len(set(columns)) < len(columns):
        raise click.BadParameter("map each field to one column, and each column to one field")
    return names


def field_values(values: Sequence[str], fields: Sequence[str], noun: str) -> dict[str, str]:
    """The value of each field, from texts of the form FIELD=VALUE. Raises: click.BadParameter."""
    pairs = [text.partition("=") for text in values]
    for name, _, value in pairs:
        if name not in fields or not value:
            raise click.BadParameter(f"use FIELD={noun} with a field of {', '.join(fields)}")
    named = {name: value for name, _, value in pairs}
    if len(named) < len(pairs):
        raise click.BadParameter("map each field to one column, and each column to one field")
    return named


def property_names(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str | None]:
    """The name of the property of each source, from texts of the form SOURCE[=NAME]."""
    pairs = [text.rpartition("=") if "=" in text else (text, "", "") for text in values]
    if any(not source for source, _, _ in pairs):
        raise click.BadParameter(f"use {parameter.metavar}")
    return {source: name or None for source, _, name in pairs}


def time_zone(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> ZoneInfo | None:
    if value is not None and value not in zone_names():
        raise click.BadParameter("use an IANA time zone, such as Europe/Berlin")
    return zone(value) if value else None
