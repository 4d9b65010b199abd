"""python main.py keys"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import cast

import click

from commands._help import DATABASE, Group
from commands._prepare import prepare
from commands._report import say
from config.database import connect
from config.settings import load_settings
from repo.api_keys import KeyExists, KeyLine, KeysRepo, NoSuchKey, Scope
from services.auth import given_secret, new_secret
from services.servers import database_server
from utils.signals import stoppable, uninterrupted

_SCOPES = ("read", "write", "admin")
_LONGEST = 100
_DONE = {0: "It is done."}
_NOT_SHOWN = "The new key of {} works, but could not be shown: revoke it, and create another one."


_scope_option = click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(_SCOPES),
    help="What the key may do; several are given one by one.",
)


@click.group(cls=Group)
def keys() -> None:
    """Create, list, rotate and revoke the keys of callers."""


def _checked_name(_: click.Context, __: click.Parameter, name: str) -> str:
    if not name.isprintable() or name != name.strip() or not 0 < len(name.encode()) <= _LONGEST:
        raise click.BadParameter(f"must be 1 to {_LONGEST} bytes of text on one line")
    return name


@keys.command(settings=DATABASE, exit_codes=_DONE)
@click.argument("name", callback=_checked_name)
@_scope_option
@stoppable()
def create(name: str, scopes: tuple[str, ...]) -> None:
    """Make a key and show it, this once."""
    secret = new_secret()
    wanted = cast(list[Scope], sorted(set(scopes)))
    with _repo() as repo, uninterrupted():
        repo.create(name, secret.digest, secret.hint, wanted)
        say(secret.text, instead=_NOT_SHOWN.format(name))


@keys.command(settings=DATABASE, exit_codes=_DONE)
@click.argument("name", callback=_checked_name)
@_scope_option
@stoppable()
def first(name: str, scopes: tuple[str, ...]) -> None:
    """Take the key that stands on standard input, unless there ever was one.

    So what starts the service by itself can do it each time, and a key that was revoked stays so.
    """
    secret = given_secret(sys.stdin.readline().strip())
    if secret is None:
        raise click.ClickException("the key must be ask_ and 32 to 200 letters, digits, - and _")
    wanted = cast(list[Scope], sorted(set(scopes)))
    with _repo() as repo:
        made = repo.create_first(name, secret.digest, secret.hint, wanted)
    say(f"The key of {name} works." if made else "There was a key before: none is made.")


@keys.command("list", settings=DATABASE, exit_codes=_DONE)
@stoppable()
def list_() -> None:
    """Tell the keys there are, never their secrets."""
    with _repo() as repo:
        lines = repo.get_all()
    for line in (("NAME", "KEY", "SCOPES", "CREATED", "ENDS", "LAST USED"), *map(_shown, lines)):
        say("{:<24} {:<10} {:<18} {:<20} {:<20} {}".format(*line).rstrip())


@keys.command(settings=DATABASE, exit_codes=_DONE)
@click.argument("name")
@click.option(
    "--grace-hours",
    default=24.0,
    type=click.FloatRange(0, 24 * 365),
    show_default=True,
    help="How long the old key works on.",
)
@stoppable()
def rotate(name: str, grace_hours: float) -> None:
    """Replace a key by a new one of the same scopes and show it, this once."""
    secret = new_secret()
    with _repo() as repo, uninterrupted():
        repo.rotate(name, secret.digest, secret.hint, timedelta(hours=grace_hours))
        say(secret.text, instead=_NOT_SHOWN.format(name))


@keys.command(settings=DATABASE, exit_codes=_DONE)
@click.argument("name")
@stoppable()
def revoke(name: str) -> None:
    """End all keys of this name, within 5 seconds on every worker."""
    with _repo() as repo:
        repo.revoke(name)
    say(f"The keys of {name} work no more.")


@contextmanager
def _repo() -> Iterator[KeysRepo]:
    with database_server(load_settings()) as url:
        prepare(url)
        conn = connect(url, "analytics-keys")
        try:
            yield KeysRepo(conn)
        except NoSuchKey as exc:
            raise click.ClickException(f"no key of the name {exc} works") from exc
        except KeyExists as exc:
            message = f"a key of the name {exc} works already: rotate or revoke it"
            raise click.ClickException(message) from exc
        finally:
            conn.close()


def _shown(line: KeyLine) -> tuple[str, ...]:
    moments = (line.created_at, line.ends_at, line.last_used_at)
    return (line.name, line.hint + "...", ",".join(line.scopes), *map(_moment, moments))


def _moment(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}Z" if moment else "never"
