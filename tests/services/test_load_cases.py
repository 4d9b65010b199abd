"""Files of the shapes that people have: each is loaded, or refused with what helps."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from psycopg2.extensions import connection

from services.ingest.mapping.presets import PRESETS
from tests import pages
from tests.adoption import run_sql
from tests.cli import run_cli

Load = Callable[..., Result]

FILES = Path(__file__).parents[1] / "data" / "cases"
LOCAL = ["--tz", "UTC"]
ID = "00000000-0000-0000-0000-{:012}"

# The options that the preview suggests, and how many rows are inserted.
LOADED: dict[str, tuple[list[str], int]] = {
    "array.json": ([], 3),
    "blank_lines.csv": ([], 1),
    "epoch.csv": ([], 2),
    "excel_bom_crlf.csv": ([], 3),
    "excel_cp1252.csv": ([], 3),
    "excel_dates.csv": (["--time-format", "%d.%m.%Y %H:%M", *LOCAL], 2),
    "excel_semicolon_bom.csv": ([], 3),
    "excel_sep.csv": ([], 3),
    "excel_utf16.csv": ([], 3),
    "float_uid.ndjson": ([], 1),
    "headed.tsv": ([], 3),
    "header_only.csv": ([], 0),
    "mysql_out.tsv": (LOCAL, 1),
    "nbsp.csv": ([], 1),
    "noid.csv": ([], 1),
    "nullword.csv": ([], 2),
    "pgcopy.csv": ([], 2),
    "pq_binname.parquet": ([], 3),
    "pq_epoch_int.parquet": ([], 3),
    "pq_jsonstr.parquet": ([], 3),
    "pq_nested.parquet": (["--map", "user_id=user.id"], 3),
    "pq_userdec.parquet": ([], 3),
    "pq_userfloat.parquet": ([], 3),
    "pretty.json": ([], 1),
    "spaces_header.csv": ([], 2),
    "sq.csv": ([], 2),
    "trailing_comma.csv": ([], 1),
    "us_dates.csv": (["--time-format", "%m/%d/%Y %I:%M:%S %p", *LOCAL], 2),
}
# The preset that the preview names, and how many rows are inserted.
PRESET: dict[str, tuple[str, int]] = {
    "access.csv": ("access-log", 1),
    "access.log": ("access-log", 3),
    "amplitude.json": ("amplitude", 3),
    "cloudtrail.ndjson": ("cloudtrail", 3),
    "ga4.json": ("ga4", 5),
    "gharchive.json": ("github-archive", 3),
    "matomo.csv": ("matomo", 2),
    "mixpanel.ndjson": ("mixpanel", 3),
    "plausible.csv": ("plausible", 1),
    "posthog.ndjson": ("posthog", 3),
    "segment.ndjson": ("segment", 3),
    "snowplow.tsv": ("snowplow", 3),
    "umami.csv": ("umami", 4),
    "wrapped.json": ("cloudtrail", 3),
}


@pytest.fixture
def load(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Load:
    """Loads a copy of a file, or a file of the test."""
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "DATABASE_URL": database_url, "REDIS_URL": redis_url}

    def load(name: str, *arguments: str) -> Result:
        if (FILES / name).exists():
            shutil.copy(FILES / name, tmp_path)
        return run_cli("load", name, *arguments, **environment)

    return load


def check_loaded(load: Load, name: str, options: list[str], rows: int, repeated: int = 0) -> None:
    """All rows of the file are events; a second load finds them."""
    first, second = load(name, *options), load(name, *options)
    assert (first.exit_code, second.exit_code) == (0, 0), first.output
    counts = f"read {rows}, inserted {rows - repeated}, already there {repeated}, rejected 0"
    assert counts in first.stdout
    assert f"read {rows}, inserted 0, already there {rows}, rejected 0" in second.stdout


@pytest.mark.parametrize("name", LOADED)
def test_a_file_is_loaded_with_the_options_that_are_suggested(load: Load, name: str) -> None:
    options, rows = LOADED[name]
    preview = load(name, "--dry-run")
    tried = re.search(r"^Try: (.*)$", preview.stdout, re.MULTILINE)
    assert (shlex.split(tried[1]) if tried else []) == options
    assert preview.exit_code == (1 if options else 0)
    check_loaded(load, name, options, rows)


OLD_MIXPANEL = (
    '{"event": "Play", "properties": {"TIME": 1377000000, "distinct_id": "d0", "n": 1}}\n'
    '{"event": "Play", "properties": {"TIME": 1377000001000, "distinct_id": "d1"}}\n'
    '{"event": "Play", "properties": '
    '{"TIME": 1736500000123, "distinct_id": 2, "$insert_id": "i"}}\n'
)


@pytest.mark.parametrize("key", ["time", "$time"])
def test_old_events_of_mixpanel_have_no_ids_and_other_units(
    load: Load, conn: connection, tmp_path: Path, key: str
) -> None:
    options = ["--from", "mixpanel"]
    options += [] if key == "time" else ["--map", f"occurred_at=properties.{key}"]
    lines = OLD_MIXPANEL.replace("TIME", key).splitlines(True)
    (tmp_path / "old.ndjson").write_text("".join(lines))
    check_loaded(load, "old.ndjson", options, 3)
    times = "to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS')"
    assert run_sql(conn, f"select user_id, {times}, properties from events order by user_id") == [
        ("2", "2025-01-10 09:06:40.123", {"$insert_id": "i"}),
        ("d0", "2013-08-20 12:00:00.000", {"n": 1}),
        ("d1", "2013-08-20 12:00:01.000", {}),
    ]
    # Ids depend neither on other rows nor on their order; equal rows without one count once.
    (tmp_path / "part.ndjson").write_text("".join([*lines[:0:-1], lines[1]]))
    done = load("part.ndjson", *options)
    assert "read 3, inserted 0, already there 3, rejected 0" in done.stdout


@pytest.mark.parametrize("options", [[], ["--property", "*"], ["--ignore", "*"]])
@pytest.mark.parametrize("form", ["ndjson", "json"])
def test_rows_after_the_first_ones_may_have_ids(
    load: Load, conn: connection, tmp_path: Path, form: str, options: list[str]
) -> None:
    at = {"event_name": "view", "occurred_at": "2025-01-10T09:00:00Z"}
    rows = [{"user_id": f"u{n}", **at} for n in range(1_200)]
    later = {1_100: f"{0:032x}", 1_190: f"{1:032x}", 1_191: "", 1_192: "none"}
    rows = [{**row, "event_id": later[n]} if n in later else row for n, row in enumerate(rows)]
    lines = list(map(json.dumps, rows))
    text = "\n".join(lines) if form == "ndjson" else f"[{','.join(lines)}]"
    (tmp_path / "late").write_text(text)
    first, second = load("late", *options), load("late", *options)
    assert "read 1,200, inserted 1,199, already there 0, rejected 1" in first.stdout
    assert "1 rejected: event_id must be a UUID" in first.stdout
    assert "read 1,200, inserted 0, already there 1,199, rejected 1" in second.stdout
    where = "where event_id::text like '00000000-%' order by event_id"
    assert run_sql(conn, f"select event_id::text, user_id, properties from events {where}") == [
        (ID.format(0), "u1100", {}),
        (ID.format(1), "u1190", {}),
    ]


@pytest.mark.parametrize("name", PRESET)
def test_an_export_is_recognized_and_loaded(load: Load, name: str) -> None:
    preset, rows = PRESET[name]
    # Without names of columns, nothing is recognized.
    if name != "snowplow.tsv":
        assert f": --from {preset}\n" in load(name, "--dry-run").stdout
    # The three rows of this file have one id.
    check_loaded(load, name, ["--from", preset], rows, 2 if name == "snowplow.tsv" else 0)


NOT_A_TIME = "occurred_at must be a time such as 2025-01-31T09:00:00+01:00"
NO_OFFSET = "occurred_at must have an offset, or --tz must name its zone"
# Rows that are rejected, by reason, and how many others are inserted.
REJECTED: dict[str, tuple[int, dict[str, int]]] = {
    "odd.ndjson": (
        6,
        {
            "the line is not valid JSON": 4,
            "the line must not contain a lone surrogate": 2,
            "the line must not have a key twice": 2,
            "properties must not hold numbers beyond 1.8e308": 1,
            "properties must not contain a NUL character": 1,
            "user_id must be text": 1,
            NOT_A_TIME: 1,
            "extra is not mapped: add --property extra or --ignore extra": 1,
        },
    ),
    "times.csv": (11, {NOT_A_TIME: 5, NO_OFFSET: 2}),
    "times.ndjson": (11, {NOT_A_TIME: 5, NO_OFFSET: 2}),
    "total.csv": (1, {"event_id is missing": 1}),
    "pq_list.parquet": (0, {"properties must be an object": 3}),
    "pq_struct_inf.parquet": (0, {"properties must be an object of JSON values": 3}),
}


@pytest.mark.parametrize("name", REJECTED)
def test_rows_that_are_no_events_are_rejected_with_the_reason(load: Load, name: str) -> None:
    inserted, reasons = REJECTED[name]
    first, second = load(name), load(name)
    rows = inserted + (rejected := sum(reasons.values()))
    assert f"read {rows}, inserted {inserted}, already there 0, rejected {rejected}" in first.stdout
    assert f"inserted 0, already there {inserted}, rejected {rejected}" in second.stdout
    found = re.findall(r"^  (\d+) rejected: (.*)$", first.stdout, re.MULTILINE)
    assert {reason: int(count) for count, reason in found} == reasons
    assert first.exit_code == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("title.csv", "which is `My report`: remove the lines above the names of the columns"),
        ("snowplow.tsv", "put a line with the names of the columns before it (Snowplow: --from"),
    ],
)
def test_a_file_without_names_of_columns_is_refused(load: Load, name: str, reason: str) -> None:
    for arguments in ([], ["--dry-run"]):
        refused = load(name, *arguments)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert reason in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_every_file_is_tested() -> None:
    tested = {*LOADED, *PRESET, *REJECTED, "title.csv"}
    assert {file.name for file in FILES.iterdir()} == tested
    assert {preset for preset, _ in PRESET.values()} == set(PRESETS)


# The user, the name, the time in UTC, and the properties of the first event of each export.
EVENTS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "access.csv": (
        "192.0.2.1",
        "request",
        "2025-01-10 09:06:40",
        {
            "status": 200,
            "request": "GET /p HTTP/1.1",
            "body_bytes_sent": 123,
            "http_user_agent": 'Mozilla/5.0 (X11; Linux) "x"',
        },
    ),
    "access.log": (
        "192.0.2.1",
        "request",
        "2025-01-10 09:06:40",
        {
            "status": 200,
            "request": "GET /p HTTP/1.1",
            "body_bytes_sent": 123,
            "http_user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
        },
    ),
    "amplitude.json": (
        "dev0",
        "open app",
        "2025-01-10 12:00:00",
        {
            "a": 1,
            "app": 1,
            "user_id": None,
            "platform": "iOS",
            "$insert_id": "abfedd1b-ddce-51ff-8cbe-c0cf0fadc402",
            "session_id": -1,
            "amplitude_id": 1000,
            "user_properties": {},
            "client_event_time": "2025-01-10 11:59:59.000000",
            "server_upload_time": "2025-01-10 12:00:05.000000",
        },
    ),
    "cloudtrail.ndjson": (
        "x",
        "ListBuckets",
        "2025-01-10 09:06:40",
        {
            "eventSource": "s3.amazonaws.com",
            "eventVersion": "1.08",
            "userIdentity": {"type": "IAMUser"},
            "requestParameters": None,
        },
    ),
    "ga4.json": (
        "123456789.1736490",
        "page_view",
        "2025-01-10 09:06:40.123456",
        {
            "geo": {"country": "Chile"},
            "items": [],
            "device": {"category": "mobile"},
            "user_id": None,
            "platform": "WEB",
            "stream_id": "1",
            "event_date": "20250110",
            "ga_session_id": 1736499999,
            "page_location": "https://shop.example/p?q=1",
            "traffic_source": {"name": "(direct)"},
            "event_bundle_sequence_id": "-12345",
            "event_previous_timestamp": "1736499999000000",
        },
    ),
    "gharchive.json": (
        "1",
        "PushEvent",
        "2025-01-10 00:00:00",
        {
            "id": "45000000000",
            "repo": {"id": 1, "name": "a/b"},
            "actor": {"login": "x"},
            "public": True,
            "payload": {"size": 1},
        },
    ),
    "matomo.csv": (
        "0x8f3a",
        "Play",
        "2025-01-10 09:06:40",
        {"idvisit": 10, "idlink_va": 1, "idaction_event_action": 5},
    ),
    "mixpanel.ndjson": (
        "d0",
        "Play",
        "2025-01-10 09:06:40",
        {
            "$city": "Lima",
            "count": 3,
            "$insert_id": "2e3e3ea54a1751a3",
            "mp_processing_time_ms": 1736500001000,
        },
    ),
    "plausible.csv": ("", "Signup", "2025-01-10 00:00:00", {"events": 12, "visitors": 10}),
    "posthog.ndjson": (
        "d1",
        "$pageview",
        "2025-01-10 09:06:40.123",
        {
            "team_id": 1,
            "person_id": "d7ea5dac-a094-5026-9b33-0e0ef68f7bde",
            "created_at": "2025-01-10 09:06:41.000000",
            "$current_url": "https://x.example/",
            "elements_chain": "",
        },
    ),
    "segment.ndjson": (
        "u2",
        "Signed Up",
        "2025-01-10 09:06:40.623",
        {
            "plan": "pro",
            "type": "track",
            "sentAt": "2025-01-10T09:06:40.500Z",
            "context": {"library": {"name": "analytics.js", "version": "2"}},
            "version": 2,
            "messageId": "ajs-next-1736500002-c31ce725-dfbb-50f5-b5f0-364fda319712",
            "receivedAt": "2025-01-10T09:06:41.000Z",
            "anonymousId": "6640adcf-c6e5-57a8-a608-6f84b1ac7b00",
            "integrations": {},
            "originalTimestamp": "2025-01-10T09:06:40.123Z",
        },
    ),
    "snowplow.tsv": (
        "uid-1",
        "page_view",
        "2025-01-10 09:06:40.123",
        {
            "app_id": "app",
            "platform": "web",
            "etl_tstamp": "2025-01-10 09:06:41.000",
            "collector_tstamp": "2025-01-10 09:06:40.500",
        },
    ),
    "umami.csv": (
        "cac67e42-720f-5729-ab9a-9b1be0770531",
        "signup",
        "2025-01-10 09:06:40.123",
        {"url_path": "/p", "event_type": 2, "website_id": "1d022452-4f92-5b2d-910e-d02b360d4bfa"},
    ),
    "wrapped.json": (
        "arn:aws:iam::1:user/x",
        "ListBuckets",
        "2025-01-10 09:06:40",
        {"userIdentity": {"type": "IAMUser"}},
    ),
}


@pytest.mark.parametrize("name", PRESET)
def test_an_export_becomes_events(load: Load, conn: connection, name: str) -> None:
    load(name, "--from", PRESET[name][0])
    (first, *_) = run_sql(
        conn,
        "select user_id, event_name, (occurred_at at time zone 'UTC')::text, properties from events"
        " order by occurred_at, event_id",
    )
    assert first == EVENTS[name]


def test_the_page_about_loading_is_true(load: Load, tmp_path: Path) -> None:
    """Each command of docs/loading.md prints what is shown there."""
    table, *shown = list(pages.blocks(pages.DOCS / "loading.md"))
    (tmp_path / "shop.csv").write_text(table.text + "\n")
    pairs = list(zip(shown[::2], shown[1::2], strict=True))
    assert len(pairs) == 2
    for command, output in pairs:
        arguments = shlex.split(command.text)[4:]
        assert load("shop.csv", *arguments).stdout.strip() == output.text.strip()
    assert "read 3, inserted 0, already there 3" in load("shop.csv", *arguments).stdout
