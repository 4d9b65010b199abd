"""The options of a mapping, as people write them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from utils.time.epochs import Epoch

ALL = "*"


@dataclass(frozen=True, slots=True)
class MappingOptions:
    """The sources of the fields of an event; a source is a column, a key or a path of keys."""

    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The sources of a field (`--map`): the first one that has a value in a row is used."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """The value of a field without a source, or of rows in which no source has one (`--set`)."""
    properties: Mapping[str, str | None] = field(default_factory=dict)
    """Sources of properties and their names (`--property`); `*` is all other columns."""
    ignored: tuple[str, ...] = ()
    id_sources: tuple[str, ...] = ()
    epoch: Epoch | None = None
    time_format: str | None = None
    tz: ZoneInfo | None = None
    nulls: tuple[str, ...] = ()
    """Texts that mean no value (`--null`)."""
    pairs: tuple[str, ...] = ()
    """Sources that are lists of objects with `key` and `value`."""
    optional: frozenset[str] = frozenset()
    """Sources of a preset, which a file may lack."""

    @property
    def is_simple(self) -> bool:
        """Whether only `--map` with one source, `--ignore` of names and `--tz` are used."""
        return (
            not (self.constants or self.properties or self.id_sources or self.nulls)
            and self.epoch is None
            and self.time_format is None
            and ALL not in self.ignored
            and all(len(sources) == 1 for sources in self.fields.values())
        )

    @property
    def names(self) -> dict[str, str]:
        """The first source of each mapped field."""
        return {name: sources[0] for name, sources in self.fields.items()}
