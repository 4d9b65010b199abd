"""Deprecated environment variables of commands: a warning, and one line where they conflict."""

from psycopg2.extensions import connection

from tests.cli import run_cli


def test_a_command_warns_on_standard_error(conn: connection, database_url: str) -> None:
    done = run_cli("migrate", DATABASE_URL=database_url, ANALYTICS_AT_ONCE_LIMIT="3")
    assert done.exit_code == 0
    assert done.stdout == "The schema is up to date.\n"
    assert done.stderr == (
        "Warning: ANALYTICS_AT_ONCE_LIMIT is deprecated and will be refused by the next release: "
        "use ANALYTICS_CONCURRENCY_LIMIT\n"
    )


def test_a_command_refuses_different_values_in_one_line(database_url: str) -> None:
    done = run_cli(
        "migrate",
        DATABASE_URL=database_url,
        ANALYTICS_CACHE_OPEN_S="1",
        ANALYTICS_CACHE_TTL_OPEN_S="2",
    )
    assert done.exit_code == 1
    assert done.stderr == (
        "Error: ANALYTICS_CACHE_OPEN_S is the deprecated name of ANALYTICS_CACHE_TTL_OPEN_S, and "
        "their values differ: remove ANALYTICS_CACHE_OPEN_S\n"
    )
