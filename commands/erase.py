"""The command `erase`."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import click
import msgspec

from commands._help import DATABASE, FAILED, Command
from commands._migrate_first import migrate_embedded
from commands._progress import progress
from commands._report import print_error, print_result
from commands._settings import read_settings
from common.receipts import Receipt
from config.database import connect
from config.settings import Settings
from repo.lifecycle.erasure import EraseRepo
from repo.lifecycle.suppression import SuppressionRepo, WritersActive
from services.background.cache_purger import purge_cache
from services.container import open_cache
from services.database_identity import Identity
from services.disk_space import storage_limits
from services.server_urls import servers
from utils.formats import quantity
from utils.paths import is_terminal
from utils.signals import stoppable, uninterrupted

_WRITERS_TIMEOUT_S = 60
_MAX_USER_BYTES = 256

_RETURN = (
    "Adopted tables: {tables}. Rows of these users that are still there become events again at the "
    "next adopt: delete them there, or repeat this command with --suppress."
)


@click.command(
    cls=Command,
    settings=(
        *DATABASE,
        "redis_url",
        "min_free_mb",
        "cache_timeout_s",
        "cache_ttl_open_s",
        "cache_stale_s",
    ),
    exit_codes={0: "Done.", 1: f"Redis may still hold answers about the users. {FAILED}"},
)
@click.argument("users", nargs=-1)
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with one user per line.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option(
    "--suppress", is_flag=True, help="Also discard events of these users that arrive later."
)
@click.option(
    "--unsuppress", is_flag=True, help="Erase nothing: accept events of these users again."
)
@click.option(
    "--suppressed", is_flag=True, help="Erase nothing: print how many users are suppressed."
)
@stoppable()
def erase(
    users: tuple[str, ...],
    file: Path | None,
    yes: bool,
    suppress: bool,
    unsuppress: bool,
    suppressed: bool,
) -> None:
    """Erase USERS: their events and everything derived from them. Prints a receipt for each user.

    Each user is erased in one transaction, while the service runs.
    """
    settings = read_settings()
    if suppress + unsuppress + suppressed > 1:
        raise click.UsageError("use one of --suppress, --unsuppress and --suppressed")
    user_ids = [] if suppressed else _parse_users(users, file)
    with _open_command(settings) as command:
        if suppressed:
            command.print_suppressed()
        elif unsuppress:
            command.unsuppress(user_ids)
        else:
            command.confirm(user_ids, yes=yes)
            command.erase(user_ids, suppress=suppress)


def _parse_users(users: Sequence[str], file: Path | None) -> list[str]:
    """The users without duplicates, in order. Raises: click.UsageError."""
    user_ids = list(dict.fromkeys([*users, *(_read_users(file) if file else ())]))
    if not user_ids:
        raise click.UsageError("name users, or give a --file of users")
    for number, user in enumerate(user_ids, 1):
        if not _is_valid_user(user):
            raise click.UsageError(
                f"user {number} of {len(user_ids)}: "
                f"a user must be 1 to {_MAX_USER_BYTES} bytes of UTF-8"
            )
    return user_ids


def _read_users(file: Path) -> Iterator[str]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.UsageError(f"{file} is not UTF-8") from None
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return (line for line in lines if line)


def _is_valid_user(user: str) -> bool:
    # Python decodes arguments that are not UTF-8 to surrogates, which cannot be encoded.
    try:
        return "\0" not in user and 1 <= len(user.encode()) <= _MAX_USER_BYTES
    except UnicodeEncodeError:
        return False


class _EraseCommand:
    """The actions of the command, on one connection."""

    def __init__(
        self,
        erase_repo: EraseRepo,
        suppression_repo: SuppressionRepo,
        settings: Settings,
        redis_url: str,
    ) -> None:
        self._erase_repo = erase_repo
        self._suppression_repo = suppression_repo
        self._settings = settings
        self._limits = storage_limits(settings)
        self._redis_url = redis_url

    def confirm(self, users: list[str], *, yes: bool) -> None:
        """Raises: click.Abort."""
        if not yes:
            events = quantity(self._erase_repo.count(users), "event")
            question = f"Erase {quantity(len(users), 'user')} with {events}?"
            click.confirm(f"{question} This cannot be undone.", abort=True, err=True)

    def erase(self, users: list[str], *, suppress: bool) -> None:
        """Erase the users; exit with 1 if the cache could not be cleared."""
        self._limits.check_reserve()
        if suppress:
            self._suppression_repo.add(users, _WRITERS_TIMEOUT_S)
        receipts = self._erase(users, suppress)
        if tables := receipts[-1].may_return_from:
            click.echo(_RETURN.format(tables=", ".join(tables)), err=True)
        if not all(receipt.cache_cleared for receipt in receipts):
            cache_ttl_s = self._settings.cache_ttl_open_s + self._settings.cache_stale_s
            click.echo(
                "Erased, but Redis cannot be reached and may hold old answers for "
                f"{cache_ttl_s} s. Services that can reach PostgreSQL do not use them, and "
                "delete them when Redis is back; so does repeating this command.",
                err=True,
            )
            sys.exit(1)

    def _erase(self, users: list[str], suppress: bool) -> list[Receipt]:
        """The receipts, one for each erased user, also if the command ends early."""
        receipts: list[Receipt] = []
        # On a terminal the printed receipts show the progress.
        bar_context = (
            nullcontext() if is_terminal(sys.stdout) else progress("erase", "users", len(users))
        )
        try:
            with bar_context as bar:
                for user in users:
                    with uninterrupted():
                        self._erase_one(user, suppress, receipts)
                    if bar:
                        bar.add(1)
        except BaseException:
            print_error(f"Interrupted: {len(receipts):,} of {len(users):,} users are erased.")
            raise
        return receipts

    def _erase_one(self, user: str, suppress: bool, receipts: list[Receipt]) -> None:
        self._limits.check_reserve()
        receipt = self._erase_repo.erase(user, is_suppressed=suppress)
        is_cleared = False
        try:
            is_cleared = asyncio.run(self._clear())
        finally:
            receipts.append(replace(receipt, cache_cleared=is_cleared))
            print_result(msgspec.json.encode(receipts[-1]))

    def unsuppress(self, users: list[str]) -> None:
        count = self._suppression_repo.remove(users, _WRITERS_TIMEOUT_S)
        print_result(f"{count:,} of {len(users):,} users were suppressed and no longer are.")
        self.print_suppressed()

    def print_suppressed(self) -> None:
        deny_list = self._suppression_repo.get_state()
        since = f", the first since {deny_list.since:%Y-%m-%d %H:%M}Z" if deny_list.since else ""
        print_result(f"{deny_list.users:,} users are suppressed{since}.")

    async def _clear(self) -> bool:
        identity = Identity(self._erase_repo.get_identity())
        cache = open_cache(self._settings, self._redis_url, identity)
        try:
            return await purge_cache(cache)
        finally:
            await cache.close()


@contextmanager
def _open_command(settings: Settings) -> Iterator[_EraseCommand]:
    with servers(settings) as endpoints:
        migrate_embedded(settings, endpoints.database_url)
        with closing(connect(endpoints.database_url, "analytics-erase")) as conn:
            conn.autocommit = True
            repos = EraseRepo(conn), SuppressionRepo(conn)
            try:
                yield _EraseCommand(*repos, settings, endpoints.redis_url)
            except WritersActive as exc:
                raise click.ClickException(
                    "a transaction that writes events is still open after "
                    f"{_WRITERS_TIMEOUT_S} s, and must end before users can be suppressed: "
                    "nothing was done"
                ) from exc
