"""The shapes of exports of other products, as options of a mapping."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.ingest.csv_dialect import NO_QUOTE
from services.ingest.mapping.options import MappingOptions
from services.ingest.mapping.snowplow import COLUMNS as SNOWPLOW_COLUMNS
from utils.time.zones import zone

_OTHERS: Mapping[str, str | None] = {"*": None}


@dataclass(frozen=True, slots=True)
class Preset:
    """The options of a product's export, and the columns by which it is recognized."""

    title: str
    options: MappingOptions
    signature: frozenset[str]
    """Sources that all rows of such an export have."""
    delimiter: str | None = None
    quote: str | None = None
    header: tuple[str, ...] = field(default=())


def _preset(
    title: str,
    fields: Mapping[str, str],
    signature: str,
    *,
    constants: Mapping[str, str] | None = None,
    id_sources: tuple[str, ...] = (),
    optional_ids: tuple[str, ...] = (),
    tz: str | None = "UTC",
    nulls: tuple[str, ...] = (),
    pairs: tuple[str, ...] = (),
    ignored: tuple[str, ...] = (),
    delimiter: str | None = None,
    quote: str | None = None,
    header: tuple[str, ...] = (),
) -> Preset:
    """A preset; `fields` and `signature` are sources, separated by spaces.

    The ids of rows without `optional_ids` are derived from the whole row.
    """
    sources = {name: tuple(text.split()) for name, text in fields.items()}
    options = MappingOptions(
        fields=sources,
        constants=constants or {},
        properties=_OTHERS,
        ignored=ignored,
        id_sources=id_sources or optional_ids,
        tz=zone(tz) if tz else None,
        nulls=nulls,
        pairs=pairs,
        optional=frozenset(sum(sources.values(), optional_ids)),
    )
    return Preset(title, options, frozenset(signature.split()), delimiter, quote, header)


PRESETS: Mapping[str, Preset] = {
    "ga4": _preset(
        "Google Analytics 4 in BigQuery",
        {
            "user_id": "user_id user_pseudo_id",
            "event_name": "event_name",
            "occurred_at": "event_timestamp",
            "properties": "event_params",
        },
        "event_timestamp event_params user_pseudo_id",
        pairs=("event_params", "user_properties"),
    ),
    "segment": _preset(
        "Segment",
        {
            "user_id": "userId anonymousId",
            "event_name": "event type",
            "occurred_at": "timestamp originalTimestamp",
            "properties": "properties",
        },
        "messageId anonymousId type",
        id_sources=("messageId",),
    ),
    "mixpanel": _preset(
        "Mixpanel",
        {
            "user_id": "properties.distinct_id",
            "event_name": "event",
            "occurred_at": "properties.time",
            "properties": "properties",
        },
        "event properties.distinct_id properties.time",
        optional_ids=("properties.$insert_id",),  # which older events lack
    ),
    "amplitude": _preset(
        "Amplitude",
        {
            "event_id": "uuid",
            "user_id": "user_id device_id",
            "event_name": "event_type",
            "occurred_at": "event_time",
            "properties": "event_properties",
        },
        "uuid event_type event_time event_properties amplitude_id",
    ),
    "posthog": _preset(
        "PostHog",
        {
            "event_id": "uuid",
            "user_id": "distinct_id",
            "event_name": "event",
            "occurred_at": "timestamp",
            "properties": "properties",
        },
        "uuid event distinct_id timestamp team_id",
    ),
    "snowplow": _preset(
        "Snowplow's enriched events",
        {
            "event_id": "event_id",
            "user_id": "user_id domain_userid network_userid",
            "event_name": "event_name event",
            "occurred_at": "derived_tstamp dvce_created_tstamp collector_tstamp",
        },
        "collector_tstamp event_id domain_userid",
        delimiter="\t",
        quote=NO_QUOTE,
        header=SNOWPLOW_COLUMNS,
    ),
    "matomo": _preset(
        "Matomo's table of actions",
        {"user_id": "idvisitor", "event_name": "name", "occurred_at": "server_time"},
        "idlink_va idvisitor server_time",
        id_sources=("idlink_va",),
    ),
    "umami": _preset(
        "Umami",
        {
            "event_id": "event_id",
            "user_id": "session_id",
            "event_name": "event_name",
            "occurred_at": "created_at",
        },
        "event_id website_id session_id created_at",
        constants={"event_name": "pageview"},
    ),
    "plausible": _preset(
        "Plausible, whose rows are totals of days",
        {"event_name": "name", "occurred_at": "date"},
        "date name visitors events",
    ),
    "github-archive": _preset(
        "GH Archive",
        {"user_id": "actor.id", "event_name": "type", "occurred_at": "created_at"},
        "id type actor.id repo.id created_at payload",
        id_sources=("id",),
    ),
    "cloudtrail": _preset(
        "AWS CloudTrail",
        {
            "event_id": "eventID",
            "user_id": "userIdentity.arn userIdentity.userName userIdentity.principalId",
            "event_name": "eventName",
            "occurred_at": "eventTime",
        },
        "eventID eventTime eventName userIdentity",
    ),
    "access-log": _preset(
        "an access log of Apache or nginx",
        {"user_id": "remote_user remote_addr", "occurred_at": "time_local"},
        "remote_addr time_local request status",
        constants={"event_name": "request"},
        tz=None,
        nulls=("-",),
    ),
}


def with_preset(name: str, options: MappingOptions) -> MappingOptions:
    """The options of a preset, overridden by others."""
    preset = PRESETS[name].options
    used = {source for sources in options.fields.values() for source in sources}
    # A source that is ignored is not stored as a field either, such as an address as the user.
    fields = {
        name: sources
        for name, listed in preset.fields.items()
        if (sources := tuple(source for source in listed if source not in options.ignored))
    }
    fields |= options.fields
    if options.id_sources:
        fields.pop("event_id", None)
    has_id = "event_id" in options.fields
    return replace(
        preset,
        fields=fields,
        constants={**preset.constants, **options.constants},
        properties=_properties(preset, options),
        ignored=(*preset.ignored, *options.ignored),
        id_sources=options.id_sources or (() if has_id else preset.id_sources),
        epoch=options.epoch,
        time_format=options.time_format,
        tz=options.tz or preset.tz,
        nulls=(*preset.nulls, *options.nulls),
        optional=preset.optional - used,
    )


def _properties(preset: MappingOptions, options: MappingOptions) -> Mapping[str, str | None]:
    """The properties of the options, and all others unless these are ignored."""
    others = {} if "*" in options.ignored else preset.properties
    return {**options.properties, **others}
