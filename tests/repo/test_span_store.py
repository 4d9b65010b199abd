"""The store of spans: late events, and the user who is erased."""

from collections.abc import Iterator

import pytest
from psycopg2.extensions import connection
from pyroaring import BitMap

from config.database import Cursor
from repo.rollups.aggregate import ALL, Batch, Delta
from repo.rollups.bitmap_rows import read_spans, write_spans
from repo.rollups.fold import begin, snapshot_locked
from repo.rollups.fold_state import Progress, read_progress
from repo.rollups.span_store import SpanStore
from repo.rollups.subtract_user import ErasedGeneration, ErasedUser, UserCounts
from tests.unit.test_aggregate import LATER, SLOT, rows
from utils.time.slots import Span

DAY, NEXT_DAY = Span(SLOT, SLOT + 96), Span(SLOT + 96, SLOT + 192)
DAY_S = 86_400


@pytest.fixture
def cur(conn: connection) -> Iterator[Cursor]:
    with snapshot_locked(conn) as locked:
        yield locked


@pytest.fixture
def progress(cur: Cursor) -> Progress:
    """Of a generation with one sealed day, of version 1."""
    progress = read_progress(cur, begin(cur, []))
    write_spans(cur, progress.generation, 1, {DAY: {1: Delta(2, BitMap([3]))}})
    cur.execute("truncate fold_spans")
    progress.version = 2
    return progress


def test_late_events_are_added_to_sealed_spans(cur: Cursor, progress: Progress) -> None:
    late = Batch([rows((DAY_S - 1, 1, 4), (DAY_S, 1, 9))], LATER)
    SpanStore([]).apply(cur, progress, late)
    assert read_spans(cur, progress.generation, [DAY, NEXT_DAY]) == {
        DAY: {1: Delta(3, BitMap([3, 4])), ALL: Delta(1, BitMap([4]))},
        NEXT_DAY: {},
    }
    assert progress.sealed_version == 2
    assert late.deltas[SLOT + 95, 1] == Delta(1, BitMap([4]))


def test_events_outside_of_sealed_spans_change_none(cur: Cursor, progress: Progress) -> None:
    SpanStore([]).apply(cur, progress, Batch([rows((DAY_S, 1, 9))], LATER))
    assert progress.sealed_version == 0


@pytest.mark.parametrize("part_size", [1, 100])
def test_events_of_a_user_are_subtracted(cur: Cursor, progress: Progress, part_size: int) -> None:
    contents = {1: Delta(5, BitMap([7, 8])), 2: Delta(1, BitMap([7])), 3: Delta(1, BitMap([8]))}
    write_spans(cur, progress.generation, 1, {DAY: contents})
    cur.execute("truncate fold_spans")
    counts = UserCounts([((SLOT, 1), 1), ((SLOT + 5, 1), 2), ((SLOT + 5, 2), 1), ((0, 3), 1)])
    generation = ErasedGeneration(progress.generation, True, SLOT, 3, counts)
    assert SpanStore([]).erase(cur, ErasedUser(1, 7, part_size, [generation])) == 1
    assert generation.has_changed_spans
    assert read_spans(cur, progress.generation, [DAY]) == {
        DAY: {1: Delta(2, BitMap([8])), 3: Delta(1, BitMap([8]))}
    }
    cur.execute("select version from sealed_spans")
    assert cur.fetchall() == [(3,)]


def test_spans_without_the_user_keep_their_version(cur: Cursor, progress: Progress) -> None:
    counts = UserCounts([((SLOT, 1), 0)])
    generation = ErasedGeneration(progress.generation, True, SLOT, 3, counts)
    assert SpanStore([]).erase(cur, ErasedUser(1, 9, 100, [generation])) == 0
    assert not generation.has_changed_spans
