"""What becomes of the rows of a file, and what the report says about them."""

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from repo.ingest import IngestRepo, Inserted
from services.ingest.input_rows import ColumnMapping
from services.ingest.loader import Loader, LoadReport, RejectedFile
from services.ingest.ndjson import ndjson_blocks
from services.ingest.validation import Validator

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
ID = "00000000-0000-4000-8000-{:012}"


class FakeRepo:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def insert(self, rows: Sequence[str]) -> Inserted:
        self.batches.append(list(rows))
        return Inserted(len(rows), 0)


def line(number: int, name: str = "view") -> str:
    fields = {"event_id": ID.format(number), "user_id": "u", "event_name": name}
    return json.dumps(fields | {"occurred_at": "2025-01-31T09:00:00Z"})


def load(tmp_path: Path, *lines: str, batch: int = 2) -> tuple[FakeRepo, LoadReport, Path]:
    repo, report, path = FakeRepo(), LoadReport(), tmp_path / "events.rejected.ndjson"
    file = cast(io.BufferedReader, io.BufferedReader(io.BytesIO("\n".join(lines).encode())))
    rejected = RejectedFile(path)
    Loader(cast(IngestRepo, repo), Validator(None, lambda: NOW), batch).load(
        ndjson_blocks(file, ColumnMapping(), batch),
        report,
        rejected=rejected,
        progress=lambda _: None,
    )
    rejected.close()
    return repo, report, path


def test_valid_rows_are_stored_in_batches(tmp_path: Path) -> None:
    repo, report, path = load(tmp_path, *map(line, range(5)))
    assert [len(batch) for batch in repo.batches] == [2, 2, 1]
    assert repo.batches[0][1] == f"{ID.format(1)}\tu\tview\t2025-01-31T09:00:00Z\t{{}}"
    assert (report.inserted, report.rejected.total(), path.exists()) == (5, 0, False)


def test_invalid_rows_are_written_to_a_file_with_their_reasons(tmp_path: Path) -> None:
    repo, report, path = load(tmp_path, line(1), line(2, ""), "{", line(3))
    assert sum(map(len, repo.batches)) == report.inserted == 2
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    assert [(row["line"], row["reason"]) for row in rows] == [
        (2, "event_name is missing"),
        (3, "the line is not valid JSON"),
    ]
    assert rows[1]["input"] == "{"
    assert dict(report.rejected) == {row["reason"]: 1 for row in rows}
