"""Applies the options of a mapping to the first rows of a file, and finds all that is missing."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.ingest.json_paths import Path, path_of, source_of, suggest
from services.ingest.mapping.cell_types import cell_type
from services.ingest.mapping.options import ALL, MappingOptions
from services.ingest.mapping.row_format import (
    MISSING,
    TEXTS,
    Row,
    RowFormat,
    find,
)
from services.ingest.mapping.row_mapping import Property, Rest, RowMapping, tree_of, unused_paths
from services.ingest.mapping.suggestions import (
    Option,
    as_text,
    id_option,
    leaf_paths,
    likely_source,
    values_at,
)
from services.ingest.mapping.times import (
    ISO,
    TimeReading,
    are_all_local,
    epoch_reading,
    format_reading,
    guess_reading,
    suggested_formats,
)
from services.ingest.validation import FIELDS, is_uuid

_NULL_WORDS = ("NULL", "null", "None", "nan", "NaN", "N/A", "undefined")
_MAX_LISTED = 20
_REQUIRED = ("event_name", "occurred_at")
_RARE = ("user_id", "properties")  # that the first rows of JSON may lack, and later ones have


@dataclass(frozen=True, slots=True)
class Sample:
    """The first rows of a file."""

    format: RowFormat
    rows: Sequence[Row]
    columns: Sequence[str] | None = None
    """The names of all columns; None where rows name their values."""

    @property
    def noun(self) -> str:
        return "column" if self.columns is not None else "key"

    def has(self, path: Path) -> bool:
        """Whether any row has a value at a path, which may be null."""
        if self.columns is None and not self.rows:
            return True
        if self.columns is not None and len(path) == 1:
            return path[0] in self.columns
        return any(find(row, path) is not MISSING for row in self.rows)

    def sources(self) -> list[str]:
        """The names of the columns, or of the values in the first rows."""
        if self.columns is not None:
            return list(self.columns)
        return list(map(source_of, leaf_paths(self.rows)))


@dataclass(frozen=True, slots=True)
class Problem:
    """Something without which the file cannot be loaded, and options that may solve it."""

    message: str
    options: tuple[Option, ...] = ()


@dataclass(slots=True)
class Resolution:
    """The mapping of a file, and the reasons why it cannot be used."""

    mapping: RowMapping
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    types: Mapping[str, str] = field(default_factory=dict)
    """The types of the columns of CSV."""
    has_unknown: bool = False
    """Whether the first rows lack a source that an option names."""

    @property
    def suggested_options(self) -> list[Option]:
        """The options that may solve all problems, each once."""
        return list(dict.fromkeys(each for problem in self.problems for each in problem.options))

    def message(self) -> str:
        """One sentence about all problems, and the options to try."""
        options = " ".join(map(as_text, self.suggested_options))
        tried = f"; try {options}, and --dry-run to see the events" if options else ""
        return "; ".join(problem.message for problem in self.problems) + tried


def resolve(options: MappingOptions, sample: Sample) -> Resolution:
    """The mapping of a file with these first rows."""
    return _Resolver(options, sample).resolve()


class _Resolver:
    def __init__(self, options: MappingOptions, sample: Sample) -> None:
        self._options = options
        self._sample = sample
        self._problems: list[Problem] = []
        self._remarks: list[str] = []
        self._suggested: set[Path] = set()
        self._has_unknown = False
        self._bases: tuple[Path, ...] = ()

    def resolve(self) -> Resolution:
        """The mapping, and its problems."""
        fields = {name: paths for name in FIELDS if (paths := self._field_paths(name))}
        ids = list(map(self._id_path, self._options.id_sources))
        ignored = [self._path(source) for source in self._options.ignored if source != ALL]
        types = {name: cell_type(self._cells(name)) for name in self._text_columns()}
        mapping = RowMapping(
            format=self._sample.format,
            fields=fields,
            constants=self._options.constants,
            properties=tuple(self._properties()),
            ignored=tuple(path for path in ignored if path),
            rest=self._rest(),
            id_paths=tuple(path for path in ids if path),
            has_optional_id=bool(set(self._options.id_sources) & self._options.optional),
            reading=self._reading(fields.get("occurred_at", ())),
            nulls=frozenset(self._options.nulls),
            pairs=frozenset(path for each in self._options.pairs if (path := self._path(each))),
            texts=types,
            counted=frozenset(
                name
                for name, sources in self._options.fields.items()
                if not set(sources) & self._options.optional
            ),
        )
        self._check(mapping)
        mapping = self._with_rare_fields(mapping)
        names = {name: kind.name for name, kind in types.items()}
        return Resolution(mapping, self._problems, self._remarks, names, self._has_unknown)

    def _check(self, mapping: RowMapping) -> None:
        unused = self._unused(mapping)
        self._bases = mapping.fields.get("properties", ())
        self._check_id(mapping)
        for name in _REQUIRED:
            if name not in mapping.fields and name not in mapping.constants:
                self._suggest_field(name, unused)
        if "user_id" not in mapping.fields and unused:
            self._suggest_user(unused)
        if "event_id" not in mapping.fields and not mapping.id_paths:
            self._suggest_id(unused)
        left = [path for path in unused if not self._is_suggested(path)]
        if left:
            self._refuse_unused(left)
        self._remark_nulls(mapping)

    def _is_suggested(self, path: Path) -> bool:
        """Whether all values at a path are suggested as sources."""
        inside = [each for each in leaf_paths(self._sample.rows) if each[: len(path)] == path]
        return set(inside or [path]) <= self._suggested

    def _path(self, source: str) -> Path | None:
        """The path of a source, which may be the name of a column as it is."""
        if self._sample.columns is not None and source in self._sample.columns:
            return (source,)
        try:
            return path_of(source)
        except ValueError as exc:
            self._problems.append(Problem(str(exc)))
            return None

    def _known_path(self, source: str, purpose: str) -> Path | None:
        """The path of a source that the first rows have; without it, a problem is recorded."""
        path = self._path(source)
        if path is None or self._sample.has(path):
            return path
        if source not in self._options.optional:
            self._problems.append(Problem(self._unknown(path, purpose)))
        return None

    def _id_path(self, source: str) -> Path | None:
        """The path of a source of ids, which rows after the first ones may have."""
        path = self._path(source)
        is_optional = source in self._options.optional
        if path and is_optional and self._may_follow(path):
            return path
        return self._known_path(source, "event_id")

    def _unknown(self, path: Path, purpose: str) -> str:
        self._has_unknown = True
        others = suggest(source_of(path), self._sample.sources())
        if self._sample.columns is not None and len(path) == 1:
            return f"there is no column {source_of(path)}{others}"
        rows = f"none of the first {len(self._sample.rows):,} rows has {source_of(path)}"
        return f"{rows}, which is mapped to {purpose}{others}"

    def _field_paths(self, name: str) -> tuple[Path, ...]:
        sources = self._options.fields.get(name)
        if sources is None:
            if name == "event_id" and self._options.id_sources:
                return ()
            return ((name,),) if self._sample.has((name,)) else ()
        if len(sources) == 1 and sources[0] not in self._options.optional:
            path = self._known_path(sources[0], name)
            return (path,) if path else ()
        paths = [path for source in sources if (path := self._path(source))]
        is_known = any(map(self._sample.has, paths))
        is_optional = bool(set(sources) & self._options.optional)
        if not is_known and not is_optional and paths:
            self._problems.append(Problem(self._unknown(paths[0], name)))
        if not is_known and not (is_optional and name in _RARE):
            return ()
        return tuple(path for path in paths if self._sample.has(path) or self._may_follow(path))

    def _may_follow(self, path: Path) -> bool:
        """Whether rows after the first ones may have a source that these lack."""
        columns = self._sample.columns
        return columns is None or (len(path) > 1 and path[0] in columns)

    def _with_rare_fields(self, mapping: RowMapping) -> RowMapping:
        """The mapping with the usual keys of fields, which rows after the first ones may have."""
        if self._sample.columns is not None:
            return mapping
        used = set(mapping.used_paths())
        names = _RARE if mapping.id_paths else ("event_id", *_RARE)
        rare: dict[str, tuple[Path, ...]] = {
            name: ((name,),)
            for name in names
            if name not in {*mapping.fields, *self._options.fields} and (name,) not in used
        }
        fields = {**mapping.fields, **rare}
        return replace(mapping, fields=fields, has_late_ids="event_id" in rare)

    def _properties(self) -> Iterator[Property]:
        for source, name in self._options.properties.items():
            if source == ALL:
                continue
            if path := self._known_path(source, "a property"):
                yield Property(path, name or path[-1])

    def _rest(self) -> Rest:
        if ALL in self._options.properties:
            return Rest.PROPERTIES
        return Rest.IGNORED if ALL in self._options.ignored else Rest.REFUSED

    def _text_columns(self) -> Sequence[str]:
        return (self._sample.columns or ()) if self._sample.format is TEXTS else ()

    def _cells(self, name: str) -> list[str]:
        cells = (row[name] for row in self._sample.rows)
        return [cell for cell in cells if cell and cell not in self._options.nulls]

    def _reading(self, paths: tuple[Path, ...]) -> TimeReading:
        if self._options.epoch:
            return epoch_reading(self._options.epoch)
        values = [value for path in paths for value in self._values(path)]
        reading = (
            format_reading(self._options.time_format)
            if self._options.time_format
            else guess_reading(values)
        )
        if reading is None:
            self._refuse_times(source_of(paths[0]), values)
        elif self._options.tz is None and are_all_local(reading, values):
            self._problems.append(
                Problem(
                    f"{source_of(paths[0])} has no offset from UTC, such as in {values[0]}: name "
                    "the time zone of these times",
                    (("--tz", "UTC"),),
                )
            )
        return reading or ISO

    def _refuse_times(self, source: str, values: Sequence[Any]) -> None:
        formats = suggested_formats(values)
        orders = {text[:5] for text in formats} & {"%m/%d", "%d/%m"}
        doubt = " (or the day first: %d/%m/...)" if len(orders) > 1 else ""
        options = (("--time-format", formats[0]),) if formats else ()
        hint = f"give its format{doubt}" if formats else "give its format with --time-format"
        self._problems.append(
            Problem(f"{source} is not read as a time, such as {values[0]}: {hint}", options)
        )
        reading = format_reading(formats[0]) if formats else ISO
        if formats and self._options.tz is None and are_all_local(reading, values):
            self._problems.append(
                Problem(f"{source} has no offset from UTC: name its time zone", (("--tz", "UTC"),))
            )

    def _values(self, path: Path) -> list[Any]:
        values = values_at(self._sample.rows, path)
        return [value for value in values if value not in self._options.nulls]

    def _unused(self, mapping: RowMapping) -> list[Path]:
        """The paths that no option names, and that most of the first rows have."""
        if mapping.rest is not Rest.REFUSED:
            return []
        tree = tree_of(list(mapping.used_paths()))
        if self._sample.columns is not None and not self._sample.rows:
            return [(name,) for name in self._sample.columns if name not in tree]
        counts = Counter(path for row in self._sample.rows for path in unused_paths(row, tree))
        usual = [path for path, rows in counts.items() if rows * 2 >= len(self._sample.rows)]
        # A comma at the end of each line makes a column without a name and without values.
        return [path for path in usual if path != ("",) or self._cells("")]

    def _candidates(self, unused: Sequence[Path]) -> list[Path]:
        """The values that may be sources of fields: of an object, those inside it."""
        paths = leaf_paths(self._sample.rows) or list(unused)
        roots = [*unused, *self._bases]
        return [path for path in paths if any(path[: len(each)] == each for each in roots)]

    def _suggest(self, field: str, unused: Sequence[Path]) -> Path | None:
        taken = [path for path in self._candidates(unused) if path not in self._suggested]
        path = likely_source(field, self._sample.rows, taken)
        if path:
            self._suggested.add(path)
        return path

    def _suggest_field(self, name: str, unused: Sequence[Path]) -> None:
        missing = f"there is no {self._sample.noun} {name}"
        if path := self._suggest(name, unused):
            source = source_of(path)
            self._add(f"{missing}, but {source} looks like it", ("--map", f"{name}={source}"))
            if name == "occurred_at":
                self._reading((path,))
        elif name == "event_name":
            hint = "map another with --map, or set a name for all rows"
            self._add(f"{missing}: {hint}", ("--set", "event_name=NAME"))
        else:
            others = ", ".join(self._sample.sources()[:_MAX_LISTED])
            self._add(
                f"{missing}; there are {others}; name the source of {name} with "
                f"--map {name}={self._sample.noun.upper()}"
            )

    def _add(self, message: str, *options: Option) -> None:
        self._problems.append(Problem(message, options))

    def _suggest_user(self, unused: Sequence[Path]) -> None:
        if path := self._suggest("user_id", unused):
            source = source_of(path)
            self._problems.append(
                Problem(
                    f"there is no {self._sample.noun} user_id, but {source} looks like it",
                    (("--map", f"user_id={source}"),),
                )
            )
        elif "user_id" not in self._options.constants:
            hint = "map another with --map user_id=SOURCE, unless the events have no users"
            self._add(f"there is no {self._sample.noun} user_id: {hint}")

    def _suggest_id(self, unused: Sequence[Path]) -> None:
        if path := self._suggest("event_id", unused):
            self._problems.append(
                Problem(
                    f"there is no {self._sample.noun} event_id, but {source_of(path)} looks like "
                    "it",
                    (id_option(path, self._sample.rows),),
                )
            )

    def _refuse_unused(self, paths: Sequence[Path]) -> None:
        sources = list(map(source_of, paths))
        listed = ", ".join(sources[:_MAX_LISTED]) + (", ..." if len(sources) > _MAX_LISTED else "")
        names = f"{self._sample.noun}{'s' if len(sources) > 1 else ''} {listed}"
        self._problems.append(
            Problem(
                f"not mapped: {names} (store properties with --property SOURCE, leave others out "
                "with --ignore SOURCE; '*' is all others)",
                (("--property", ALL),),
            )
        )

    def _check_id(self, mapping: RowMapping) -> None:
        for path in mapping.fields.get("event_id", ()):
            values = self._values(path)
            if values and not any(map(is_uuid, values)):
                source = source_of(path)
                self._problems.append(
                    Problem(
                        f"{source} holds no UUIDs, such as {values[0]}: derive event_id from it",
                        (("--id", source),),
                    )
                )

    def _remark_nulls(self, mapping: RowMapping) -> None:
        for name in ("user_id", "event_name"):
            for path in mapping.fields.get(name, ()):
                words = set(map(str, self._values(path))) & set(_NULL_WORDS)
                self._remarks += [
                    f"{source_of(path)} is {word} in some rows: if that means no value, add "
                    f"--null {word}"
                    for word in sorted(words)
                ]
