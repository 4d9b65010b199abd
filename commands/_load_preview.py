"""The preview of `load --dry-run`: the first rows as events, and what becomes of each column."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from services.ingest.input_file import InputFile
from services.ingest.input_rows import InputRow
from services.ingest.json_paths import Path, path_of, source_of
from services.ingest.mapped_block import MappedBlock
from services.ingest.mapping.options import MappingOptions
from services.ingest.mapping.presets import PRESETS, with_preset
from services.ingest.mapping.resolution import Resolution, Sample
from services.ingest.mapping.row_mapping import Rest, RowMapper, RowMapping
from services.ingest.mapping.suggestions import as_text, leaf_paths, with_options
from services.ingest.mapping.tables import single_records
from services.ingest.validation import FIELDS, Invalid, Validator

_ROWS = 3
_MAX_CHARS = 240


def preview(name: str, file: InputFile, options: MappingOptions) -> tuple[str, bool]:
    """The text about a file, and whether it can be loaded. Raises: UnreadableInput."""
    resolution = file.resolve(options)
    presets = list(matching_presets(file.sample)) if resolution.problems else []
    sections = [
        [f"{name}: {_layout(file)}"],
        list(_columns(_without_rare_sources(resolution, file.sample), file.sample)),
        list(_problems(resolution, presets)),
        list(_events(file, resolution, options, presets)),
    ]
    text = "\n\n".join("\n".join(section) for section in sections if section)
    return text, not resolution.problems


def _without_rare_sources(resolution: Resolution, sample: Sample) -> Resolution:
    """The resolution without sources that none of the first rows has."""
    mapping = resolution.mapping
    known = {name: tuple(filter(sample.has, paths)) for name, paths in mapping.fields.items()}
    fields = {name: paths for name, paths in known.items() if paths}
    return replace(resolution, mapping=replace(mapping, fields=fields))


def _layout(file: InputFile) -> str:
    description = file.layout.description
    return file.layout.form + (f", {description}" if description else "")


def _columns(resolution: Resolution, sample: Sample) -> Iterator[str]:
    """The use of each field, and of each column."""
    mapping = resolution.mapping
    rows = [(field, _field(field, mapping)) for field in FIELDS[:-1]]
    rows.append(("properties", ", ".join(_properties(resolution, sample)) or "none"))
    if mapping.ignored or mapping.rest is Rest.IGNORED:
        ignored = [source_of(path) or '""' for path in mapping.ignored]
        rows.append(
            ("ignored", ", ".join([*ignored, *(["all others"] * (mapping.rest is Rest.IGNORED))]))
        )
    yield from (f"  {name:<12} {text}" for name, text in rows)


def _field(name: str, mapping: RowMapping) -> str:
    sources = ", else ".join(map(source_of, mapping.fields.get(name, ())))
    constant = mapping.constants.get(name)
    if name == "event_id" and not sources:
        ids = ", ".join(map(source_of, mapping.id_paths))
        return f"derived from {ids}" if ids else "derived from the whole row"
    if name == "occurred_at" and sources and mapping.reading.description:
        sources += f" ({mapping.reading.description})"
    if constant is not None:
        return f"{sources}, else {constant!r}" if sources else repr(constant)
    return sources or "none"


def _properties(resolution: Resolution, sample: Sample) -> Iterator[str]:
    mapping = resolution.mapping
    if mapping.base:
        yield f"the keys of {source_of(mapping.base)}"
    for each in mapping.properties:
        kind = resolution.types.get(source_of(each.path))
        renamed = f" as {each.name}" if each.name != each.path[-1] else ""
        yield source_of(each.path) + renamed + (f" ({kind})" if kind else "")
    if mapping.rest is Rest.PROPERTIES:
        yield from _others(resolution, sample)


def _others(resolution: Resolution, sample: Sample) -> Iterator[str]:
    used = set(resolution.mapping.used_paths())
    paths: list[Path] = (
        [(name,) for name in sample.columns]
        if sample.columns is not None
        else leaf_paths(sample.rows)
    )
    for path in paths:
        if not any(path[: len(each)] == each for each in used):
            kind = resolution.types.get(path[0])
            yield source_of(path) + (f" ({kind})" if kind else "")


def _problems(resolution: Resolution, presets: list[str]) -> Iterator[str]:
    if resolution.problems or resolution.remarks:
        yield "Missing:" if resolution.problems else "Note:"
        yield ""
    yield from (f"  {problem.message}" for problem in resolution.problems)
    yield from (f"  {remark}" for remark in resolution.remarks)
    if presets:
        yield ""
        yield from (f"This looks like {PRESETS[name].title}: --from {name}" for name in presets)
    elif options := resolution.suggested_options:
        yield ""
        yield f"Try: {' '.join(map(as_text, options))}"


def _events(
    file: InputFile, resolution: Resolution, options: MappingOptions, presets: list[str]
) -> Iterator[str]:
    """The first rows as events, with the suggested options if any are missing."""
    suffix = ""
    if resolution.problems:
        suffix = ", with these options"
        options = (
            with_preset(presets[0], options)
            if presets
            else with_options(options, resolution.suggested_options)
        )
        resolution = file.resolve(options)
    records = file.first_records()[:_ROWS]
    if records:
        yield f"First rows as events{suffix}:"
        yield ""
    validator = Validator(options.tz, lambda: datetime.now(UTC))
    for row in MappedBlock(single_records(records), RowMapper(resolution.mapping)).lines():
        text = _event(row, validator)
        yield "  " + (text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]} ...")


def _event(row: InputRow, validator: Validator) -> str:
    """The event of a row as JSON, or the reason why it is none."""
    try:
        if isinstance(row.event, Invalid):
            raise row.event
        event = validator(row.event)._asdict()
    except Invalid as exc:
        return f"row {row.number} is rejected: {exc}"
    # As text, so that numbers keep their digits.
    properties = event.pop("properties")
    return f'{json.dumps(event, ensure_ascii=False)[:-1]}, "properties": {properties}}}'


def matching_presets(sample: Sample) -> Iterator[str]:
    """The presets whose columns a file has."""
    for name, preset in PRESETS.items():
        if sample.rows and all(sample.has(path_of(source)) for source in preset.signature):
            yield name
