"""Batches of a file: which rows are stored, and which are refused."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import pytest

from config.database_errors import DiskFull
from repo.ingest import IngestRepo, Inserted
from repo.rejection_reasons import EventsExpired, EventsRefused
from services.ingest.batch_writer import Batch, BatchResult, BatchWriter

ACCEPTED_FROM = datetime(2025, 1, 1, tzinfo=UTC)
TOO_OLD = "occurred_at must not be before 2025-01-01T00:00:00Z: older events are no longer accepted"


class FakeRepo:
    """Refuses batches with a row `bad`, and the rows `old`; `known` is stored already."""

    def __init__(self) -> None:
        self.stored: list[str] = []

    def insert(self, rows: Sequence[str]) -> Inserted:
        if expired := [index for index, row in enumerate(rows) if row == "old"]:
            raise EventsExpired(ACCEPTED_FROM, expired)
        if "bad" in rows:
            raise EventsRefused("cannot be stored")
        self.stored += [row for row in rows if row != "known"]
        return Inserted(len(rows) - rows.count("known"), 0)


def write(*rows: str) -> tuple[list[str], list[BatchResult]]:
    repo, batch = FakeRepo(), Batch()
    batch.add(list(rows), [(number, row) for number, row in enumerate(rows, 1)])
    writer = BatchWriter(cast(IngestRepo, repo))
    try:
        writer.store(batch)
        writer.wait()
        return repo.stored, list(writer.results())
    finally:
        writer.close()


def test_new_and_present_rows_are_counted() -> None:
    assert write("a", "known", "b") == (["a", "b"], [BatchResult(2, 1, 0, [])])


def test_refused_rows_are_found_by_bisection_and_all_others_stored() -> None:
    stored, results = write("a", "b", "bad", "c", "bad")
    assert stored == ["a", "b", "c"]
    assert sum(result.inserted for result in results) == 3
    refused = [row for result in results for row in result.refused]
    assert refused == [((3, "bad"), "cannot be stored"), ((5, "bad"), "cannot be stored")]


def test_expired_rows_are_left_out_at_once() -> None:
    stored, results = write("old", "a", "old")
    assert stored == ["a"]
    refused = [row for result in results for row in result.refused]
    assert refused == [((1, "old"), TOO_OLD), ((3, "old"), TOO_OLD)]


def test_nothing_is_stored_where_there_is_no_space() -> None:
    def check_space() -> None:
        raise DiskFull("full")

    repo, batch = FakeRepo(), Batch(["a"], [(1, "a")], 1)
    writer = BatchWriter(cast(IngestRepo, repo), check_space=check_space)
    writer.store(batch)
    with pytest.raises(DiskFull):
        writer.wait()
    assert repo.stored == []


def test_a_batch_is_full_by_rows_or_by_bytes() -> None:
    batch = Batch()
    batch.add(["x" * 2**20] * 15, [(1, "")] * 15)
    assert (batch.is_full(15), batch.is_full(16)) == (True, False)
    batch.add(["x" * 2**20, "y"], [(16, ""), (17, "")])
    assert batch.is_full(1_000)
