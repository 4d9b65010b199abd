"""Plans to read columns of chunks, and the events that are in no chunk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from repo.columns.chunk import ColumnKey
from repo.columns.chunk_table import ChunkRow, ColumnState, Path
from repo.columns.codec import StoredKey, field_key, property_key
from repo.engine.plan import Plan
from repo.engine.scan import Scan
from repo.engine.timeline import Timeline, united
from utils.time.calendar import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnPlan(Plan):
    """A plan to read columns of chunks, and the events that are in no chunk."""

    scan: Scan
    state: ColumnState | None
    chunks: Sequence[ChunkRow]
    paths: Mapping[Path, int]
    """The ids of those properties of the scan that have columns."""
    unread_bytes: int = 0
    """Bytes of columns that must be read from PostgreSQL, where the plan is explained."""
    of_users: Sequence["ColumnPlan"] = ()
    """The plans by which users are chosen first."""

    @property
    def scan_plans(self) -> Sequence["ColumnPlan"]:
        """The plans by which users are chosen, and this one."""
        return (*self.of_users, self)

    @property
    def ranges(self) -> list[Range]:
        """All times that are read, in order and disjoint."""
        return united(each for plan in self.scan_plans for each in plan.scan.ranges)

    @property
    def chunk_count(self) -> int:
        """The number of chunks that are read."""
        return len({chunk.chunk_id for plan in self.scan_plans for chunk in plan.chunks})

    @property
    def row_count(self) -> int:
        """The number of rows of the chunks of this scan."""
        return sum(chunk.events for chunk in self.chunks)

    @property
    def generation(self) -> int:
        return self.state.generation if self.state else 0

    @property
    def property_keys(self) -> dict[ColumnKey, StoredKey]:
        """The columns of properties that the scan reads."""
        return {
            key: property_key(path_id, key.kind)
            for key in self.scan.column_keys
            if (path_id := self.paths.get(key.path))
        }

    def needed_columns(self) -> Iterator[tuple[list[int], list[StoredKey]]]:
        """Yield chunks with the columns that are needed of them."""
        timeline = Timeline(self.scan.ranges)
        cut, whole = list[int](), list[int]()
        for chunk in self.chunks:
            is_cut = timeline.range_of(chunk.first, chunk.last) is None
            (cut if is_cut else whole).append(chunk.chunk_id)
        fields, properties = self.scan.all_fields, self.property_keys.values()
        yield whole, [*map(field_key, sorted(fields)), *properties]
        yield cut, [*map(field_key, sorted(fields | {"time"})), *properties]
