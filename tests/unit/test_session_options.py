"""Options of sessions, the schema in a URL, and the names of statements."""

import pytest
from psycopg2.extensions import parse_dsn

from utils.session_options import (
    connect_arguments,
    in_schema,
    schema_fault,
    search_path,
    statement_name,
)


@pytest.mark.parametrize("schema", ["analytics", "Analytics-2", "1", "größe", "a$", "x" * 63])
def test_a_url_names_the_schema(schema: str) -> None:
    url = in_schema("postgresql://me:a+b?c@db:5433/shop?sslmode=disable", schema)
    assert parse_dsn(url) == {
        "user": "me",
        "password": "a+b?c",
        "host": "db",
        "port": "5433",
        "dbname": "shop",
        "sslmode": "disable",
        "options": f'-c search_path="{schema}"',
    }
    assert search_path(url) == f'"{schema}"'
    assert schema_fault(schema) is None


def test_other_options_of_a_url_are_kept() -> None:
    url = in_schema("postgresql:///shop?host=/tmp&options=-c%20geqo%3Doff", "one")
    assert parse_dsn(url) == {
        "host": "/tmp",
        "dbname": "shop",
        "options": '-c geqo=off -c search_path="one"',
    }
    assert search_path(in_schema(url, "two")) == '"two"'
    options = connect_arguments(url, {"timezone": "UTC"}, "x", 1)["options"]
    assert options == (
        '-c geqo=off -c search_path="one" -c timezone=UTC '
        "-c statement_timeout=1000 -c idle_in_transaction_session_timeout=6000"
    )


def test_a_url_without_options_names_no_schema() -> None:
    assert search_path("postgresql://me@db/options=") is None
    assert connect_arguments("postgresql://me@db/x", {}, "x")["options"] == ""


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ("public", "analytics-rollup"),
        ("Analytics-2", "analytics-rollup Analytics-2"),
        ("a" * 32, "analytics-rollup " + "a" * 32),
        ("a" * 40 + "1", "analytics-rollup 695fe1a9"),
        ("a" * 40 + "2", "analytics-rollup 8a0066df"),
        ("аналитика", "analytics-rollup fa773991"),
    ],
)
def test_the_application_name_has_a_short_ascii_tag_of_the_schema(schema: str, name: str) -> None:
    url = in_schema("postgresql://me@db/x", schema)
    assert connect_arguments(url, {}, "analytics-rollup")["application_name"] == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        '"a"',
        "a b",
        "a.b",
        "$user",
        "-a",
        "a,b",
        "a\n",
        "a%",
        "x" * 64,
        "ä" * 32,
        "pg_x",
        "information_schema",
    ],
)
def test_what_is_no_name_of_a_schema_is_told(name: str) -> None:
    assert schema_fault(name) is not None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("/* rollups_state */ select 1", "rollups_state"),
        (b"/* rollups_state */ select '\xc3\xa4'", "rollups_state"),
        (b"\xff", "sql"),
        ("select 1 /* late */", "sql"),
        ("", "sql"),
    ],
)
def test_statements_are_named_by_their_first_comment(text: str | bytes, name: str) -> None:
    assert statement_name(text) == name
