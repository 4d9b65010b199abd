"""The command `keys`."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import cast

import click

from commands._help import DATABASE, Group
from commands._migrate_first import apply_migrations
from commands._report import print_result
from commands._settings import read_settings
from common.key_metrics import is_reserved
from config.database import connect
from repo.api_keys import ApiKeyInfo, KeyExists, KeysRepo, NoSuchKey, Scope
from services.api_key_secrets import new_secret, parse_secret
from services.server_urls import database_server
from utils.signals import stoppable, uninterrupted

_SCOPES = ("read", "write", "admin")
_MAX_NAME_BYTES = 100
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?|https?://\[[0-9a-f:]+\](:[0-9]+)?")
_DONE = {0: "Done."}
_NOT_SHOWN = "The new key of {} works, but could not be printed: revoke it and create another one."


_scope_option = click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(_SCOPES),
    help="What the key allows; repeat the option for several scopes.",
)


@click.group(cls=Group)
def keys() -> None:
    """Create, list, rotate and revoke API keys."""


def _checked_name(_: click.Context, __: click.Parameter, name: str) -> str:
    if (
        not name.isprintable()
        or name != name.strip()
        or not 0 < len(name.encode()) <= _MAX_NAME_BYTES
    ):
        raise click.BadParameter(f"must be 1 to {_MAX_NAME_BYTES} bytes of text on one line")
    if is_reserved(name):
        raise click.BadParameter(
            "`-`, `(none)` and `(other)`, also with `key ` before them, are reserved for metrics "
            "and log lines: choose another name"
        )
    return name


def _checked_origins(
    _: click.Context, __: click.Parameter, origins: tuple[str, ...]
) -> tuple[str, ...]:
    for origin in origins:
        # Browsers leave the usual port out, so an origin with it would never be theirs.
        usual_port = ":443" if origin.startswith("https:") else ":80"
        if not _ORIGIN.fullmatch(origin) or origin.endswith(usual_port):
            raise click.BadParameter("must be as browsers send it, such as https://www.example.com")
    return origins


@keys.command(settings=DATABASE, exit_codes=_DONE)
@click.argument("name", callback=_checked_name)
@_scope_option
@click.option(
    "--origin",
    "origins",
    multiple=True,
    callback=_checked_origins,
    help="Only pages of this origin may use the key, which needs the scope write alone; repeat the "
    "option for several origins.",
)
@click.option(
    "--rate",
    type=click.IntRange(1, 100_000),
    help="Requests per second, instead of ANALYTICS_RATE_LIMIT.",
)
@stoppable()
def create(name: str, scopes: tuple[str, ...], origins: tuple[str, ...], rate: int | None) -> None:
    """Create a key and print it. It cannot be printed again."""
    unique_scopes = cast(list[Scope], sorted(set(scopes)))
    if origins and unique_scopes != ["write"]:
        raise click.UsageError("--origin needs --scope write alone: anybody can read such a key")
    secret = new_secret()
    with _repo() as repo, uninterrupted():
        repo.create(name, secret.digest, secret.hint, unique_scopes, sorted(set(origins)), rate)
        print_result(secret.text, fallback=_NOT_SHOWN.format(name))


@keys.command(settings=DATABASE, exit_codes=_DONE)
@click.argument("name", callback=_checked_name)
@_scope_option
@stoppable()
def first(name: str, scopes: tuple[str, ...]) -> None:
    """Create the key that is read from standard input, unless there was ever a key.

    A deployment can run this at every start: a revoked key is not created again.
    """
    secret = parse_secret(sys.stdin.readline().strip())
    if secret is None:
        raise click.ClickException(
            "the key must be ask_ followed by 32 to 200 letters, digits, - or _"
        )
    unique_scopes = cast(list[Scope], sorted(set(scopes)))
    with _repo() as repo:
        is_created = repo.create_first(name, secret.digest, secret.hint, unique_scopes)
    print_result(
        f"The key of {name} works." if is_created else "No key is created: there was a key before."
    )


@keys.command("list", settings=DATABASE, exit_codes=_DONE)
@stoppable()
def list_() -> None:
    """Print all keys, without their secrets."""
    with _repo() as repo:
        key_rows = repo.get_all()
    for row in (
        ("NAME", "KEY", "SCOPES", "CREATED", "ENDS", "LAST USED", "RATE", "ORIGINS"),
        *map(_format_row, key_rows),
    ):
        print_result("{:<24} {:<10} {:<18} {:<20} {:<20} {:<20} {:<6} {}".format(*row).rstrip())


@keys.command(settings=DATABASE, exit_codes=_DONE)
@click.argument("name")
@click.option(
    "--grace-hours",
    default=24.0,
    type=click.FloatRange(0, 24 * 365),
    show_default=True,
    help="How long the old key still works.",
)
@stoppable()
def rotate(name: str, grace_hours: float) -> None:
    """Replace a key by a new one with the same scopes and print it. It cannot be printed again."""
    secret = new_secret()
    with _repo() as repo, uninterrupted():
        repo.rotate(name, secret.digest, secret.hint, timedelta(hours=grace_hours))
        print_result(secret.text, fallback=_NOT_SHOWN.format(name))


@keys.command(settings=DATABASE, exit_codes=_DONE)
@click.argument("name")
@stoppable()
def revoke(name: str) -> None:
    """Revoke all keys of this name. Every worker rejects them within 5 seconds."""
    with _repo() as repo:
        repo.revoke(name)
    print_result(f"The keys of {name} are revoked.")


@contextmanager
def _repo() -> Iterator[KeysRepo]:
    with database_server(read_settings()) as url:
        apply_migrations(url)
        conn = connect(url, "analytics-keys")
        try:
            yield KeysRepo(conn)
        except NoSuchKey as exc:
            raise click.ClickException(f"there is no active key named {exc}") from exc
        except KeyExists as exc:
            message = f"there is an active key named {exc}: rotate or revoke it"
            raise click.ClickException(message) from exc
        finally:
            conn.close()


def _format_row(row: ApiKeyInfo) -> tuple[str, ...]:
    instants = (row.created_at, row.ends_at, row.last_used_at)
    return (
        row.name,
        row.hint + "...",
        ",".join(row.scopes),
        *map(_format_instant, instants),
        "" if row.rate is None else str(row.rate),
        " ".join(row.origins),
    )


def _format_instant(instant: datetime | None) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M}Z" if instant else "never"
