"""The options of `load` about how files are written, and how their rows become events."""

import re
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, get_args

import click

from commands._options import field_values, property_names, time_zone
from services.ingest.input_file import ReadOptions
from services.ingest.input_rows import Form
from services.ingest.mapping.options import ALL, MappingOptions
from services.ingest.mapping.presets import PRESETS, with_preset
from services.ingest.validation import FIELDS
from utils.time.epochs import Epoch

_COMMA = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')
_CONSTANTS = ("user_id", "event_name", "occurred_at")
_CONTROL = {"\\t": "\t", "tab": "\t"}


def _sources(text: str) -> tuple[str, ...]:
    """The sources in a list; a comma in quotes is part of a key."""
    return tuple(part.strip() for part in _COMMA.split(text) if part.strip())


def _fields(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    pairs = field_values(values, FIELDS, "SOURCE")
    return {name: _sources(text) for name, text in pairs.items()}


def _constants(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    return field_values(values, _CONSTANTS, "VALUE")


def _ids(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return _sources(value) if value else ()


def _character(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    character = _CONTROL.get(value or "", value)
    if character is not None and len(character) != 1:
        raise click.BadParameter(r"use one character, or \t for a tab")
    return character


def _encoding(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    try:
        "".encode(value or "utf-8")
    except LookupError:
        raise click.BadParameter("use an encoding such as utf-8, utf-16 or cp1252") from None
    return "utf-8-sig" if value and value.lower() in ("utf-8", "utf8") else value


_OPTIONS: tuple[Callable[..., Any], ...] = (
    click.option(
        "--from",
        "preset",
        type=click.Choice(list(PRESETS)),
        help="The product that exported the files; other options override what this implies.",
    ),
    click.option(
        "--map",
        "fields",
        multiple=True,
        callback=_fields,
        metavar="FIELD=SOURCE[,SOURCE]",
        help="The source of a field: a column, or a path of keys such as user.id; of several, the "
        "first that has a value.",
    ),
    click.option(
        "--set",
        "constants",
        multiple=True,
        callback=_constants,
        metavar="FIELD=VALUE",
        help="The value of a field in rows in which no source has one.",
    ),
    click.option(
        "--property",
        "properties",
        multiple=True,
        callback=property_names,
        metavar="SOURCE[=NAME]",
        help="Store this source as a property; '*' is all others.",
    ),
    click.option(
        "--ignore",
        "ignored",
        multiple=True,
        metavar="SOURCE",
        help="Do not store this source; '*' is all others.",
    ),
    click.option(
        "--id",
        "id_sources",
        callback=_ids,
        metavar="SOURCE[,SOURCE]",
        help="Derive event_id from these sources; by default, from the whole row.",
    ),
    click.option(
        "--epoch",
        type=click.Choice(get_args(Epoch)),
        help="The unit of times that are numbers since 1970.",
    ),
    click.option(
        "--time-format", metavar="FORMAT", help="The format of times, such as '%d.%m.%Y %H:%M'."
    ),
    click.option(
        "--tz",
        metavar="ZONE",
        callback=time_zone,
        help="The time zone of times without an offset, such as Europe/Berlin.",
    ),
    click.option(
        "--null", "nulls", multiple=True, metavar="TEXT", help="A text that means no value."
    ),
    click.option(
        "--format",
        "form",
        type=click.Choice(get_args(Form)),
        help="The format of the files; detected from their first bytes by default.",
    ),
    click.option(
        "--delimiter", callback=_character, help="The character between the columns of CSV."
    ),
    click.option("--encoding", callback=_encoding, help="The encoding, such as cp1252."),
    click.option("--quote", callback=_character, help="The character around values of CSV."),
)


def mapping_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options; `parse_options` makes the objects of them."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


def parse_options(values: Mapping[str, Any]) -> tuple[ReadOptions, MappingOptions]:
    """The options of reading and of mapping. Raises: click.BadParameter."""
    preset = values["preset"]
    names = ("fields", "constants", "properties", "id_sources", "epoch", "time_format", "tz")
    options = MappingOptions(
        **{name: values[name] for name in names},
        ignored=tuple(dict.fromkeys(values["ignored"])),
        nulls=values["nulls"],
    )
    _check(options, preset)
    layout = {name: values[name] for name in ("form", "encoding", "delimiter", "quote")}
    if preset is None:
        return ReadOptions(**layout), options
    layout["delimiter"] = layout["delimiter"] or PRESETS[preset].delimiter
    layout["quote"] = layout["quote"] or PRESETS[preset].quote
    return ReadOptions(**layout, header=PRESETS[preset].header), with_preset(preset, options)


def _check(options: MappingOptions, preset: str | None) -> None:
    """Raises: click.BadParameter, for options that contradict each other."""
    unset = [
        name for name in FIELDS if name not in options.fields and name not in options.constants
    ]
    defaults = [] if preset else [(name,) for name in unset]
    if options.id_sources:
        defaults = [each for each in defaults if each != ("event_id",)]
    sources = [source for each in (*options.fields.values(), *defaults) for source in each]
    if len(set(sources)) < len(sources):
        raise click.BadParameter("--map: map each source to one field")
    if needed := set(sources) & set(options.ignored):
        raise click.BadParameter(
            f"--ignore: {', '.join(sorted(needed))} is the source of a field of events"
        )
    if ALL in options.properties and ALL in options.ignored:
        raise click.BadParameter("use either --property '*' or --ignore '*'")
    if options.epoch and options.time_format:
        raise click.BadParameter("use either --epoch or --time-format")
