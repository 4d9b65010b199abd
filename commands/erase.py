"""python main.py erase"""

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
from common.answers import Receipt
from config.database import connect
from config.settings import Settings
from repo.lifecycle.erasure import EraseRepo
from repo.lifecycle.suppression import SuppressionRepo, WritersActive
from services.background.cache_purger import purge_cache
from services.connections import servers
from services.container import open_cache
from services.database_identity import Identity
from services.disk_space import storage_limits
from utils.paths import is_terminal
from utils.signals import stoppable, uninterrupted

_WRITERS_TIMEOUT_S = 60
_MAX_USER_BYTES = 256

_RETURN = (
    "Adopted: {tables}. Rows of these users that are still there are events again after the next "
    "adopt: delete them there, or repeat this with --suppress."
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
    exit_codes={0: "All is done.", 1: f"Redis may hold answers about them. {FAILED}"},
)
@click.argument("users", nargs=-1)
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of users, one on each line.",
)
@click.option("--yes", is_flag=True, help="Do not ask first.")
@click.option("--suppress", is_flag=True, help="Leave out their events that come in later, too.")
@click.option("--unsuppress", is_flag=True, help="Erase nothing: take their later events again.")
@click.option("--suppressed", is_flag=True, help="Erase nothing: tell how many are suppressed.")
@stoppable()
def erase(
    users: tuple[str, ...],
    file: Path | None,
    yes: bool,
    suppress: bool,
    unsuppress: bool,
    suppressed: bool,
) -> None:
    """Erase USERS: their events, and whatever was made of them. Each has a receipt, in order.

    One user after another is erased at once or not at all, while the service runs.
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
    """Each once. Raises: click.UsageError."""
    user_ids = list(dict.fromkeys([*users, *(_read_users(file) if file else ())]))
    if not user_ids:
        raise click.UsageError("name the users, or a --file of them")
    for number, user in enumerate(user_ids, 1):
        if not _is_valid_user(user):
            raise click.UsageError(
                f"user {number} of {len(user_ids)}: "
                f"a user is 1 to {_MAX_USER_BYTES} bytes of UTF-8 long"
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
    """Arguments that are no UTF-8 come with surrogates, which have no bytes."""
    try:
        return "\0" not in user and 1 <= len(user.encode()) <= _MAX_USER_BYTES
    except UnicodeEncodeError:
        return False


class _EraseCommand:
    """On one connection."""

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
            events = self._erase_repo.count(users)
            whom = f"{len(users):,} users" if len(users) > 1 else "1 user"
            question = f"Erase {whom} with {events:,} events? This cannot be undone."
            click.confirm(question, abort=True, err=True)

    def erase(self, users: list[str], *, suppress: bool) -> None:
        """Exits with 1 where the cache cannot be told."""
        self._limits.check_reserve()
        if suppress:
            self._suppression_repo.add(users, _WRITERS_TIMEOUT_S)
        receipts = self._erase(users, suppress)
        if tables := receipts[-1].may_return_from:
            click.echo(_RETURN.format(tables=", ".join(tables)), err=True)
        if not all(receipt.cache_cleared for receipt in receipts):
            cache_ttl_s = self._settings.cache_ttl_open_s + self._settings.cache_stale_s
            click.echo(
                f"Erased; but Redis cannot be reached, and may keep answers for {cache_ttl_s} s, "
                "which no service gives that has reached PostgreSQL since. A service that runs "
                "drops them when it can; so does repeating the command.",
                err=True,
            )
            sys.exit(1)

    def _erase(self, users: list[str], suppress: bool) -> list[Receipt]:
        """Each user who is erased has a receipt, also where the command ends early."""
        receipts: list[Receipt] = []
        # On a terminal the receipts themselves show how far it has come.
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
            print_error(f"It broke off: {len(receipts):,} of {len(users):,} users are erased.")
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
        print_result(f"Of {len(users):,} users {count:,} were suppressed, and are not any more.")
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
                    "a transaction that writes events goes on and on, and nobody can be suppressed "
                    "before it ends: nothing was done"
                ) from exc
