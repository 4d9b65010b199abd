"""The report about one input."""

import io
from pathlib import Path
from typing import cast

from commands._load_report import Summary
from services.ingest.input_file import InputFile, ReadOptions
from services.ingest.loader import LoadReport, RejectedFile
from services.ingest.mapping.options import MappingOptions


def test_guesses_follow_the_counts(tmp_path: Path) -> None:
    outcome, rejected = LoadReport(inserted=1, present=1), RejectedFile(tmp_path / "r")
    summary = Summary("a.csv", outcome, rejected)
    raw = io.BufferedReader(io.BytesIO(b"user_id;event_name;occurred_at\nNULL;a;1736500000\n"))
    file = InputFile(cast(io.BufferedReader, raw), ReadOptions())
    summary.describe(file, file.resolve(MappingOptions()))
    outcome.missing_sources["user_id"] += 2
    assert summary().splitlines() == [
        "a.csv: read 2, inserted 1, already there 1, rejected 0",
        "  read as csv, columns separated by semicolons",
        "  occurred_at read as seconds since 1970",
        "  user_id is NULL in some rows: if that means no value, add --null NULL",
        "  2 without user_id, the source of user_id",
    ]


def test_a_file_that_cannot_be_read_has_no_report(tmp_path: Path) -> None:
    outcome = LoadReport(failure="this is not a Parquet file")
    assert Summary("a", outcome, RejectedFile(tmp_path / "r"))() == ""
