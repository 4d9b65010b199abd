"""`python main.py check-upgrade`: whether pg_upgrade can upgrade one release to another."""

from tests.cli import run_cli


def test_an_upgrade_to_a_release_that_is_as_recent_is_possible() -> None:
    done = run_cli("check-upgrade", "postgres (PostgreSQL) 15.18 (Debian 15.18-1)", "18.6")
    assert done.exit_code == 0
    assert done.stdout.startswith("PostgreSQL 15.18")
    assert " can be upgraded to 18.6" in done.stdout


def test_an_upgrade_to_an_older_release_is_not() -> None:
    done = run_cli("check-upgrade", "15.20", "18.6")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


def test_a_release_that_is_none_is_wrong_usage() -> None:
    done = run_cli("check-upgrade", "nonsense", "18.6")
    assert done.exit_code == 2
    assert "must name a release of PostgreSQL 15 to 18, such as 18.1" in done.stderr
