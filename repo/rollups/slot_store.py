"""The store of slots: the rows of 15 minutes and one event name, or of all names together."""

from collections.abc import Mapping

from psycopg2.extensions import connection, cursor
from pyroaring import BitMap

from config.database import Cursor
from repo.engine.watermark import read_watermark
from repo.rollups.aggregate import Batch, Delta, Key
from repo.rollups.bitmap_rows import read_slots, write_slots
from repo.rollups.fold_state import Progress
from repo.rollups.store import Horizon, Store, StoreBehind
from repo.rollups.subtract_user import ErasedGeneration, ErasedUser, emptied, filled, subtract
from repo.statements import statements

FOLD = statements("fold")
ERASE = statements("erase")
RETAIN = statements("retain")


class SlotStore(Store):
    """The finest rollup, of which all others are made."""

    name = unit = "slots"
    tables = ("slots",)

    def apply(self, cur: cursor, progress: Progress, batch: Batch) -> None:
        rows = dict(batch.deltas)
        for key, events, users in read_slots(cur, progress.generation, sorted(batch.slots)):
            if delta := batch.deltas.get(key):
                rows[key] = Delta(events, BitMap.deserialize(users))
                rows[key].add(delta.events, delta.users)
        write_slots(cur, progress.generation, rows)

    def seal(self, cur: cursor, progress: Progress) -> int:
        return 0  # late events may change every slot

    def erase(self, cur: Cursor, user: ErasedUser) -> int:
        return sum(_erase(cur, user, generation) for generation in user.generations)

    def drop_before(self, cur: Cursor, horizon: Horizon) -> None:
        """Check that all events before the horizon are counted; the slots stay in their place."""
        watermark = read_watermark(cur)
        if watermark is None:
            raise StoreBehind
        cur.execute(RETAIN["retain_is_counted"], {**watermark.tail, "until": horizon.events})
        if cur.fetchone() != (True,):
            raise StoreBehind

    def rebuild(self, cur: cursor, progress: Progress) -> None:
        """Copy the slots of dropped events, which cannot be counted anew."""
        cur.execute(FOLD["fold_copy_retained_slots"], {"generation": progress.generation})

    def maintain(self, conn: connection, *, is_lazy: bool) -> int:
        return 0


def _erase(cur: Cursor, user: ErasedUser, generation: ErasedGeneration) -> int:
    changed: set[int] = set()
    for counts in generation.counts.parts(user.part_size):
        changed |= _subtract(cur, generation.generation, user.ordinal, counts)
    return len(changed)


def _subtract(cur: Cursor, generation: int, ordinal: int, counts: Mapping[Key, int]) -> set[int]:
    """Subtract events and remove the user; return the slots whose rows were changed."""
    rows = read_slots(cur, generation, sorted({slot for slot, _ in counts}))
    stored = ((key, Delta(events, BitMap.deserialize(users))) for key, events, users in rows)
    changed = subtract(stored, counts, ordinal)
    write_slots(cur, generation, filled(changed))
    keys = emptied(changed)
    params = {"slots": [slot for slot, _ in keys], "name_ids": [name_id for _, name_id in keys]}
    cur.execute(ERASE["erase_delete_slots"], {"generation": generation, **params})
    return {slot for slot, _ in changed}
