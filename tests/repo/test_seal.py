"""Sealing: which spans are over, and what is stored for them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from psycopg2.extensions import connection, cursor
from pyroaring import BitMap

from repo.engine.tail import BackfillCursor
from repo.rollups import seal as seal_module
from repo.rollups.aggregate import Delta
from repo.rollups.bitmap_rows import read_spans, write_slots
from repo.rollups.fold import begin, locked, snapshot_locked
from repo.rollups.fold_state import Progress
from repo.rollups.seal import due_spans, next_spans, seal, sealable_range
from utils.time.slots import Span, slot_of, slot_start
from utils.time.zones import zone

DAY, NEXT_DAY = Span(0, 96), Span(96, 192)
UNKNOWN_ID = "00000000-0000-0000-0000-000000000000"
Fold = tuple[cursor, Progress]


@pytest.fixture
def fold(conn: connection) -> Iterator[Fold]:
    with snapshot_locked(conn) as cur:
        generation = begin(cur, [])
    with locked(conn, generation) as opened:
        yield opened


def test_a_sealed_span_is_the_union_of_its_slots(fold: Fold) -> None:
    cur, progress = fold
    rows = {
        (0, 1): Delta(2, BitMap([3])),
        (95, 1): Delta(1, BitMap([4])),
        (96, 1): Delta(9, BitMap()),
    }
    write_slots(cur, progress.generation, rows)
    seal(cur, progress, [DAY])
    assert read_spans(cur, progress.generation, [DAY]) == {DAY: {1: Delta(3, BitMap([3, 4]))}}


def test_a_sealed_span_is_not_sealed_again(fold: Fold) -> None:
    cur, progress = fold
    seal(cur, progress, [DAY])
    version = progress.version
    assert progress.sealed_version == version
    seal(cur, progress, [DAY])
    assert progress.version == version
    seal(cur, progress, [DAY, NEXT_DAY])
    assert progress.version == version + 1


def test_due_spans_are_hours_days_and_months_that_are_not_sealed(fold: Fold) -> None:
    cur, progress = fold
    march = slot_of(datetime(2025, 3, 1, tzinfo=UTC))
    outer = Span(march, march + 31 * 96)
    due = due_spans(cur, progress.generation, outer, [zone("UTC")])
    # Of 32 days before March and its 31: hours, days, and the months February and March.
    assert len(due) == 63 * 24 + 63 + 2
    assert due[-1] == outer
    seal(cur, progress, [outer])
    assert due_spans(cur, progress.generation, outer, [zone("UTC")]) == due[:-1]


def test_a_transaction_reads_a_limited_number_of_bytes(
    fold: Fold, monkeypatch: pytest.MonkeyPatch
) -> None:
    cur, progress = fold
    days = [DAY, NEXT_DAY, Span(192, 288)]
    users = BitMap(range(0, 100_000, 50))
    write_slots(cur, progress.generation, {(day.start, 1): Delta(1, users) for day in days})
    assert next_spans(cur, progress.generation, days) == days
    monkeypatch.setattr(seal_module, "MAX_SET_BYTES", 2 * len(users.serialize()) + 100)
    assert next_spans(cur, progress.generation, days) == days[:2]


def test_slots_that_are_over_can_be_sealed(fold: Fold) -> None:
    progress = replace(fold[1], first_slot=5, until=slot_start(10))
    assert sealable_range(progress) == Span(5, 10)
    assert sealable_range(replace(progress, first_slot=None)) is None
    assert sealable_range(replace(progress, first_slot=10)) is None
    backfill = BackfillCursor(slot_start(7).isoformat(), UNKNOWN_ID)
    assert sealable_range(replace(progress, backfill_cursor=backfill)) == Span(5, 7)
