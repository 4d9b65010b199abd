"""`python main.py keys`: secrets are shown once, and names stay."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import Result
from psycopg2.extensions import connection

from services.api_key_secrets import digest_of
from tests.api.test_keys import status
from tests.cli import run_cli
from tests.database_clock import set_clock
from tests.live_server import running

Keys = Callable[..., Result]


@pytest.fixture
def keys(database_url: str, redis_url: str) -> Keys:
    urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}

    def call(*arguments: str, given: str = "") -> Result:
        return run_cli("keys", *arguments, stdin=given, **urls)

    return call


def working(conn: connection, secret: str) -> list[str] | None:
    """The scopes of a key that works."""
    with conn.cursor() as cur:
        cur.execute(
            "select scopes from api_keys where digest = %s "
            "and (ends_at is null or ends_at > now())",
            (digest_of(secret),),
        )
        row = cur.fetchone()
        return row[0] if row else None


def test_a_key_is_shown_once_and_kept_as_its_hash(keys: Keys, conn: connection) -> None:
    secret = keys("create", "app", "--scope", "read", "--scope", "write").stdout.strip()
    assert len(secret) == 47
    assert working(conn, secret) == ["read", "write"]
    listed = keys("list").stdout
    assert secret not in listed
    assert secret[:8] in listed
    with conn.cursor() as cur:
        cur.execute("select api_keys::text from api_keys where name = 'app'")
        (row,) = cur.fetchone() or ("",)
    assert secret not in row


def test_a_key_of_a_page_has_origins_and_a_rate(keys: Keys, conn: connection) -> None:
    """Which stay when it is rotated."""
    page, local = "https://www.example.com", "http://localhost:5173"
    limits = ["--scope", "write", "--origin", page, "--origin", local, "--rate", "20"]
    created = keys("create", "page", *limits)
    rotated = keys("rotate", "page")
    with conn.cursor() as cur:
        cur.execute("select digest, scopes, origins, rate from api_keys where name = 'page'")
        rows = [(bytes(digest), *rest) for digest, *rest in cur]
    assert sorted(rows) == sorted(
        (digest_of(result.stdout.strip()), ["write"], [local, page], 20)
        for result in (created, rotated)
    )
    assert keys("list").stdout.count(f"20     {local} {page}\n") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scope", "read", "--origin", "https://a.example"], "needs --scope write alone"),
        (
            ["--scope", "write", "--scope", "read", "--origin", "https://a.example"],
            "needs --scope write alone",
        ),
        (["--scope", "write", "--origin", "https://a.example/"], "must be as browsers send it"),
        (["--scope", "write", "--origin", "a.example"], "must be as browsers send it"),
        (["--scope", "write", "--origin", "*"], "must be as browsers send it"),
        (["--scope", "write", "--origin", "https://a.example:443"], "must be as browsers send it"),
        (["--scope", "write", "--origin", "http://a.example:80"], "must be as browsers send it"),
        (["--scope", "write", "--rate", "0"], "0 is not in the range"),
    ],
)
def test_limits_that_are_none(keys: Keys, options: list[str], message: str) -> None:
    result = keys("create", "page", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_a_name_is_given_once(keys: Keys) -> None:
    keys("create", "app", "--scope", "read")
    again = keys("create", "app", "--scope", "read")
    assert again.exit_code == 1
    assert "Error: there is an active key named app: rotate or revoke it" in again.stderr


def test_the_old_key_works_on_for_its_grace(keys: Keys, conn: connection) -> None:
    old = keys("create", "app", "--scope", "read").stdout.strip()
    new = keys("rotate", "app").stdout.strip()
    assert working(conn, old) == working(conn, new) == ["read"]
    newest = keys("rotate", "app", "--grace-hours", "0").stdout.strip()
    assert working(conn, new) is None
    assert working(conn, newest) == ["read"]


def test_all_keys_of_a_name_are_revoked(keys: Keys, conn: connection) -> None:
    secrets = [keys("create", "app", "--scope", "read").stdout.strip()]
    secrets.append(keys("rotate", "app").stdout.strip())
    assert keys("revoke", "app").stdout == "The keys of app are revoked.\n"
    assert [working(conn, secret) for secret in secrets] == [None, None]


@pytest.fixture
def no_keys(conn: connection) -> None:
    """As if there never was one."""
    with conn.cursor() as cur:
        cur.execute("delete from api_keys")


FIRST_KEY = "ask_0123456789abcdef0123456789abcdef"


def create_first(keys: Keys, stdin: str = FIRST_KEY) -> Result:
    return keys("first", "first", "--scope", "write", "--scope", "read", given=stdin)


@pytest.mark.usefixtures("no_keys")
def test_the_first_key_may_be_given(keys: Keys, conn: connection) -> None:
    made = create_first(keys)
    assert made.stdout == "The key of first works.\n"
    assert working(conn, FIRST_KEY) == ["read", "write"]
    assert FIRST_KEY not in made.stdout + made.stderr


@pytest.mark.usefixtures("no_keys")
def test_a_first_key_that_was_revoked_does_not_come_back(keys: Keys, conn: connection) -> None:
    create_first(keys)
    keys("revoke", "first")
    again = create_first(keys)
    assert (again.exit_code, again.stdout) == (0, "No key is created: there was a key before.\n")
    assert working(conn, FIRST_KEY) is None


@pytest.mark.usefixtures("no_keys")
@pytest.mark.parametrize(
    "given", ["", FIRST_KEY[:-1], FIRST_KEY.removeprefix("ask_"), FIRST_KEY + "!"]
)
def test_a_first_key_that_can_be_guessed_is_refused(
    keys: Keys, conn: connection, given: str
) -> None:
    refused = create_first(keys, given)
    assert refused.exit_code == 1
    assert refused.stderr == (
        "Error: the key must be ask_ followed by 32 to 200 letters, digits, - or _\n"
    )
    with conn.cursor() as cur:
        cur.execute("select from api_keys")
        assert cur.rowcount == 0


@pytest.mark.parametrize("command", ["rotate", "revoke"])
def test_a_name_that_nobody_has_is_told(keys: Keys, command: str) -> None:
    done = keys(command, "nobody")
    assert done.exit_code == 1
    assert done.stderr == "Error: there is no active key named nobody\n"


def test_an_unknown_scope_is_refused(keys: Keys) -> None:
    assert "'read', 'write', 'admin'" in keys("create", "app", "--scope", "all").stderr


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "ä" * 51, "two\nlines", " app"])
def test_a_name_that_cannot_be_told_is_refused(keys: Keys, conn: connection, name: str) -> None:
    refused = keys("create", name, "--scope", "read")
    assert refused.exit_code == 2
    assert "must be 1 to 100 bytes of text on one line" in refused.stderr
    with conn.cursor() as cur:
        cur.execute("select from api_keys where name = %s", (name,))
        assert cur.rowcount == 0


@pytest.mark.parametrize("command", ["create", "first"])
@pytest.mark.parametrize("name", ["-", "(none)", "(other)", "key -", "key (none)", "key (other)"])
@pytest.mark.usefixtures("no_keys")
def test_a_reserved_name_is_refused(keys: Keys, conn: connection, command: str, name: str) -> None:
    refused = keys(command, name, "--scope", "read", given=FIRST_KEY)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.splitlines()[-1] == (
        "Error: Invalid value for 'NAME': `-`, `(none)` and `(other)`, also with `key ` before "
        "them, are reserved for metrics and log lines: choose another name"
    )
    with conn.cursor() as cur:
        cur.execute("select from api_keys")
        assert cur.rowcount == 0


@pytest.mark.parametrize("name", ["--", "none", "key", "key app", "key key -"])
def test_a_name_like_a_reserved_one_is_accepted(keys: Keys, name: str) -> None:
    assert keys("create", "--scope", "read", "--", name).exit_code == 0


@pytest.mark.parametrize(
    ("call", "statuses"),
    [
        (["revoke", "app"], (401, 401, 401)),
        (["rotate", "app", "--grace-hours", "0"], (401, 401, 401)),
        (["rotate", "app"], (200, 401, 200)),
    ],
)
def test_a_key_that_was_revoked_stays_so_when_the_clock_is_set_back(
    keys: Keys,
    conn: connection,
    database_url: str,
    redis_url: str,
    call: list[str],
    statuses: tuple[int, ...],
) -> None:
    """Now, two days later, and two days before; only a grace goes by the clock."""
    secret = keys("create", "app", "--scope", "read").stdout.strip()
    assert keys(*call).exit_code == 0
    now = datetime.now(UTC)
    seen = []
    for days in (0, 2, -2):
        set_clock(conn, now + timedelta(days=days))
        with running(database_url, redis_url) as service:
            seen.append(status(service, {"Authorization": f"Bearer {secret}"}))
    assert tuple(seen) == statuses


def test_revoking_again_finds_no_key(keys: Keys, conn: connection) -> None:
    """Neither where one was revoked, nor where its grace is over."""
    keys("create", "app", "--scope", "read")
    keys("create", "web", "--scope", "read")
    assert keys("revoke", "app").exit_code == 0
    conn.cursor().execute("update api_keys set ends_at = '2025-01-01' where name = 'web'")
    for name in ("app", "web", "nobody"):
        assert f"there is no active key named {name}" in keys("revoke", name).stderr
