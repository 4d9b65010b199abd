"""Which of two releases of PostgreSQL is the more recent one, by the days that they came out."""

import pytest
from click.testing import CliRunner

from main import cli

OF_DEBIAN = "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)"


def check(old: str, new: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["check-upgrade", old, new])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("15.18", "18.6", "15.18 (released on 2026-05-14) can be upgraded to 18.6"),
        ("15.19", "18.6", "18.6 (released on 2026-08-13)"),
        ("15.20", "18.7", "18.7 (released after 2026-08-13)"),
        ("15.14", "18.0", "18.0 (released on 2025-09-25)"),
        ("16.14", "17.10", "17.10 (released on 2026-05-14)"),
        ("18.6", "18.6", "18.6 (released on 2026-08-13)"),
        ("15.22", "18.9", "18.9 (released after 2026-08-13)"),
        ("postgres (PostgreSQL) 17.11", "postgres (PostgreSQL) 18.6", "17.11 (released on 2026-08"),
    ],
)
def test_as_recent_a_release_takes_over(old: str, new: str, said: str) -> None:
    code, text = check(old, new)
    assert code == 0
    assert said in text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            OF_DEBIAN,
            "postgres (PostgreSQL) 18.6",
            "Error: PostgreSQL 18.6 (released on 2026-08-13) is older than 15.20 (released on "
            "2026-11-12), and pg_upgrade would fail. Install the newest minor release "
            "of PostgreSQL 18.\n",
        ),
        ("15.19", "18.4", "at least 18.6."),  # there never was an 18.5
        ("15.15", "18.0", "at least 18.1."),
        ("16.16", "17.11", "16.16 (released after 2026-08-13)"),
        ("15.21", "18.7", "15.21 (released after 2026-11-12)"),
        ("18.4", "18.3", "at least 18.4."),
        ("18.0", "15.20", "PostgreSQL 15 is an older version than 18."),
    ],
)
def test_an_older_release_is_refused(old: str, new: str, said: str) -> None:
    code, text = check(old, new)
    assert code == 1
    assert said in text


@pytest.mark.parametrize("text", ["", "18", "14.9", "postgres", "secret-1.2.3", "18.6.1"])
def test_what_names_no_release_is_refused(text: str) -> None:
    code, said = check("15.20", text)
    assert code == 2
    assert "must name a release of PostgreSQL 15 to 18" in said
    assert "secret" not in said
