"""What is missing for a file, all at once, and the options that are suggested."""

from typing import Any

import pytest

from services.ingest.mapping.options import MappingOptions
from services.ingest.mapping.resolution import Resolution, Sample, resolve
from services.ingest.mapping.row_format import JSON, TEXTS, decode_raw
from services.ingest.mapping.suggestions import as_text

TIME = "2025-01-31T09:00:00Z"
ID = "8e2b1f52-64a3-4f0f-9f2c-0d9f0a9b6a01"


def csv(header: str, *rows: str, **options: Any) -> Resolution:
    names = header.split(",")
    cells = [dict(zip(names, row.split(","), strict=True)) for row in rows]
    return resolve(MappingOptions(**options), Sample(TEXTS, cells, names))


def ndjson(*rows: str, **options: Any) -> Resolution:
    return resolve(MappingOptions(**options), Sample(JSON, list(map(decode_raw, rows))))


@pytest.mark.parametrize(
    ("header", "row", "options"),
    [
        ("event_id,event_name,occurred_at", f"{ID},a,{TIME}", []),
        ("event_name,occurred_at", f"a,{TIME}", []),
        ("event_name,timestamp", f"a,{TIME}", ["--map occurred_at=timestamp"]),
        ("event_name,zeit", f"a,{TIME}", ["--map occurred_at=zeit"]),
        ("event_name,occurred_at", "a,2025-01-31", ["--tz UTC"]),
        (
            "event_name,day",
            "a,31.01.2025",
            ["--map occurred_at=day", "--time-format %d.%m.%Y", "--tz UTC"],
        ),
        ("event_id,event_name,occurred_at", f"7,a,{TIME}", ["--id event_id"]),
        ("id,event_name,occurred_at", f"7,a,{TIME}", ["--id id"]),
        ("uuid,event_name,occurred_at", f"{ID},a,{TIME}", ["--map event_id=uuid"]),
        ("event_name,occurred_at,price,plan", f"a,{TIME},1,pro", ["--property '*'"]),
        ("occurred_at,visitor", f"{TIME},v", ["--set event_name=NAME", "--map user_id=visitor"]),
        (
            "Visitor ID,Action,When,Price",
            f"v,buy,{TIME},9",
            [
                "--map event_name=Action",
                "--map occurred_at=When",
                "--map 'user_id=Visitor ID'",
                "--property '*'",
            ],
        ),
    ],
)
def test_options_are_suggested_for_columns(header: str, row: str, options: list[str]) -> None:
    assert list(map(as_text, csv(header, row).suggested_options)) == options


def test_keys_in_objects_are_suggested() -> None:
    resolution = ndjson(f'{{"type":"a","created_at":"{TIME}","actor":{{"id":1,"login":"x"}}}}')
    assert list(map(as_text, resolution.suggested_options)) == [
        "--map event_name=type",
        "--map occurred_at=created_at",
        "--map user_id=actor.login",
        "--property '*'",
    ]


def test_all_problems_are_in_one_sentence() -> None:
    message = csv("name,ts,plan", f"a,{TIME},pro").message()
    assert message == (
        "there is no column event_name, but name looks like it; there is no column occurred_at, "
        "but ts looks like it; there is no column user_id: map another with --map user_id=SOURCE, "
        "unless the events have no users; not mapped: column plan (store properties with "
        "--property SOURCE, leave others out with --ignore SOURCE; '*' is all others); try --map "
        "event_name=name --map occurred_at=ts --property '*', and --dry-run to see the events"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": {"user_id": ("usr",)}}, "there is no column usr; did you mean user"),
        ({"id_sources": ("nothing",)}, "there is no column nothing"),
        ({"properties": {"plam": None}}, "there is no column plam; did you mean plan?"),
    ],
)
def test_a_source_that_the_file_lacks_is_a_problem(options: Any, message: str) -> None:
    resolution = csv("user,event_name,occurred_at,plan", f"u,a,{TIME},p", **options)
    assert message in resolution.message()
    assert resolution.has_unknown


def test_a_source_of_a_preset_may_be_missing() -> None:
    resolution = csv(
        "event_name,occurred_at,device",
        f"a,{TIME},d",
        fields={"user_id": ("login", "device")},
        optional=frozenset(["login", "device"]),
    )
    assert resolution.problems == []
    assert resolution.mapping.fields["user_id"] == (("device",),)


def test_sources_that_only_later_rows_of_json_have_are_used() -> None:
    """Exports leave out keys without a value: the first rows may all be of unknown users."""
    row = f'{{"event_name":"a","occurred_at":"{TIME}","device":"d"}}'
    sources = ("login", "device")
    for optional in (frozenset[str](), frozenset(sources)):
        mapping = ndjson(row, fields={"user_id": sources}, optional=optional).mapping
        assert mapping.fields["user_id"] == (("login",), ("device",))
    names = {"user_id": ("who",), "properties": ("params",)}
    optional = frozenset(["who", "params"])
    mapping = ndjson(row, fields=names, optional=optional, ignored=("device",)).mapping
    assert (mapping.fields["user_id"], mapping.base) == ((("who",),), ("params",))
    mapping = ndjson(row, properties={"*": None}).mapping
    assert (mapping.fields["user_id"], mapping.base) == ((("user_id",),), ("properties",))


def test_a_source_that_is_no_path_is_a_problem() -> None:
    row = f'{{"event_name":"a","occurred_at":"{TIME}"}}'
    resolution = ndjson(row, fields={"user_id": ("a..b", "c..d")})
    assert "a..b is not a path of keys" in resolution.message()


def test_keys_that_few_rows_have_are_no_problem() -> None:
    usual = f'{{"event_name":"a","occurred_at":"{TIME}"}}'
    odd = f'{{"event_name":"a","occurred_at":"{TIME}","odd":1}}'
    assert ndjson(usual, usual, odd).problems == []
    assert "not mapped: key odd" in ndjson(usual, odd).message()


def test_an_object_whose_leaves_are_mapped_is_mapped() -> None:
    row = f'{{"event_name":"a","occurred_at":"{TIME}","user":{{"id":"u","mail":"m"}}}}'
    fields = {"user_id": ("user.id",)}
    assert "not mapped: key user.mail" in ndjson(row, fields=fields).message()
    assert ndjson(row, fields=fields, ignored=("user.mail",)).problems == []


def test_an_empty_column_without_a_name_is_ignored() -> None:
    assert csv("event_name,occurred_at,", f"a,{TIME},").problems == []
    assert "not mapped" in csv("event_name,occurred_at,", f"a,{TIME},x").message()


def test_words_for_no_value_are_remarked() -> None:
    header, row = "user_id,event_name,occurred_at", f"NULL,a,{TIME}"
    assert csv(header, row).remarks == [
        "user_id is NULL in some rows: if that means no value, add --null NULL"
    ]
    assert csv(header, row, nulls=("NULL",)).remarks == []


def test_a_file_without_rows_has_no_problems() -> None:
    assert ndjson().problems == []
    assert csv("event_name,occurred_at").problems == []
