"""The catalogue of properties in one snapshot: stored statistics, or scans that count anew."""

from datetime import datetime
from typing import Any

from common.dates import ALL_TIME
from common.query import Query
from config.database import Cursor
from repo.catalogue.property_scans import PropertyScans
from repo.catalogue.statistics_table import read_counts, read_kinds
from repo.columns.cache import COLUMN_CACHE
from repo.columns.chunk import Kind
from repo.columns.chunk_table import Path
from repo.queries.answers import open_watermark


class CatalogueReader:
    """Reads what is known of the properties of all events up to now.

    Raises: ColumnsBuilding.
    """

    def __init__(self, cur: Cursor, query: Query) -> None:
        self.cur = cur
        self._query = query
        watermark = open_watermark(cur, query)
        self.scans = PropertyScans(cur, watermark, query.name, COLUMN_CACHE)
        counts = read_counts(cur) if watermark else None
        self.counted_at: datetime | None = counts.counted_at if counts else None
        """When the stored statistics were counted; None if there are none."""

    def new_types(self) -> dict[Path, set[Kind]]:
        """Return the types that values had when they were written to columns, or have since then.

        Among them are those of events that were not counted yet.
        """
        generation = self.scans.plan.generation
        types = {path: set(kinds) for path, kinds in read_kinds(self.cur, generation).items()}
        for path, kind in self.scans.tail_columns():
            types.setdefault(path, set()).add(kind)
        return types

    def meta(self, counted_at: datetime | None = None) -> dict[str, Any]:
        """Return the fields of the meta, for counts that are exact as of a time or of now."""
        meta = self._query.meta(ALL_TIME, self.cur.now, "columns")
        zone, since = self._query.zone, self.scans.since
        return meta | {
            "start": since.astimezone(zone) if since else None,
            "end": None,
            "counted_at": (counted_at or self.cur.now).astimezone(zone),
        }
