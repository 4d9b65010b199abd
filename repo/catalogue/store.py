"""The store of the catalogue: statistics of properties, which are counted anew as a whole."""

from psycopg2.extensions import connection, cursor

from config.database import Cursor
from repo.catalogue.count import count_if_due
from repo.catalogue.statistics_table import forget
from repo.rollups.aggregate import Batch
from repo.rollups.fold_state import Progress
from repo.rollups.store import Horizon, Store
from repo.rollups.subtract_user import ErasedUser


class CatalogueStore(Store):
    """Statistics of properties, as of the time when they were counted."""

    name = "catalogue"
    unit = "properties"
    tables = ("catalogue_counts", "catalogue_names", "catalogue_properties")

    def apply(self, cur: cursor, progress: Progress, batch: Batch) -> None:
        """Do nothing: the statistics are those of a time."""

    def seal(self, cur: cursor, progress: Progress) -> int:
        return 0  # nothing is ever over: late events count as well

    def erase(self, cur: Cursor, user: ErasedUser) -> int:
        """Forget all statistics: values that only this user had are among them.

        Questions count the properties themselves until they are counted anew.
        """
        return forget(cur)

    def drop_before(self, cur: Cursor, horizon: Horizon) -> None:
        """Forget all statistics if values are dropped."""
        if horizon.properties is not None:
            forget(cur)

    def rebuild(self, cur: Cursor, progress: Progress) -> None:
        """Forget all statistics, since a rebuild corrects what differs from the events."""
        forget(cur)

    def maintain(self, conn: connection, *, is_lazy: bool) -> int:
        """Count all properties if that is due, but not between folds, since it takes too long."""
        return 0 if is_lazy else count_if_due(conn)
