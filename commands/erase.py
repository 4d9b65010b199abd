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
from commands._prepare import prepare_embedded
from commands._progress import progress
from commands._report import complain, say
from common.receipts import Receipt
from config.database import connect
from config.settings import Settings, load_settings
from repo.erase import EraseRepo
from repo.suppress import SuppressionRepo, WritersAtWork
from services.cache_clearing import clear
from services.identity import Identity
from services.resources import open_cache
from services.servers import servers
from services.storage import storage_limits
from utils.places import is_terminal
from utils.signals import stoppable, uninterrupted

_WRITERS_END_WITHIN_S = 60
_LONGEST = 256

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
        "cache_open_s",
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
    settings = load_settings()
    if suppress + unsuppress + suppressed > 1:
        raise click.UsageError("use one of --suppress, --unsuppress and --suppressed")
    found = [] if suppressed else _checked(users, file)
    with _work(settings) as work:
        if suppressed:
            work.tell_suppressed()
        elif unsuppress:
            work.unsuppress(found)
        else:
            work.ask(found, yes=yes)
            work.erase(found, suppress=suppress)


def _checked(users: Sequence[str], file: Path | None) -> list[str]:
    """Each once. Raises: click.UsageError."""
    found = list(dict.fromkeys([*users, *(_listed(file) if file else ())]))
    if not found:
        raise click.UsageError("name the users, or a --file of them")
    for number, user in enumerate(found, 1):
        if not _may_be(user):
            raise click.UsageError(
                f"user {number} of {len(found)}: a user is 1 to {_LONGEST} bytes of UTF-8 long"
            )
    return found


def _listed(file: Path) -> Iterator[str]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.UsageError(f"{file} is not UTF-8") from None
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return (line for line in lines if line)


def _may_be(user: str) -> bool:
    """Arguments that are no UTF-8 come with surrogates, which have no bytes."""
    try:
        return "\0" not in user and 1 <= len(user.encode()) <= _LONGEST
    except UnicodeEncodeError:
        return False


class _Work:
    """On one connection."""

    def __init__(
        self, erasing: EraseRepo, suppressing: SuppressionRepo, settings: Settings, redis_url: str
    ) -> None:
        self._erasing = erasing
        self._suppressing = suppressing
        self._settings = settings
        self._limits = storage_limits(settings)
        self._redis_url = redis_url

    def ask(self, users: list[str], *, yes: bool) -> None:
        """Raises: click.Abort."""
        if not yes:
            events = self._erasing.count(users)
            whom = f"{len(users):,} users" if len(users) > 1 else "1 user"
            question = f"Erase {whom} with {events:,} events? This cannot be undone."
            click.confirm(question, abort=True, err=True)

    def erase(self, users: list[str], *, suppress: bool) -> None:
        """Exits with 1 where the cache cannot be told."""
        self._limits.check_reserve()
        if suppress:
            self._suppressing.add(users, _WRITERS_END_WITHIN_S)
        receipts = self._erase(users, suppress)
        if tables := receipts[-1].may_return_from:
            click.echo(_RETURN.format(tables=", ".join(tables)), err=True)
        if not all(receipt.cache_cleared for receipt in receipts):
            kept_s = self._settings.cache_open_s + self._settings.cache_stale_s
            click.echo(
                f"Erased; but Redis cannot be reached, and may keep answers for {kept_s} s, which "
                "no service gives that has reached PostgreSQL since. A service that runs drops "
                "them when it can; so does repeating the command.",
                err=True,
            )
            sys.exit(1)

    def _erase(self, users: list[str], suppress: bool) -> list[Receipt]:
        """Each user who is erased has a receipt, also where the command ends early."""
        receipts: list[Receipt] = []
        # On a terminal the receipts themselves show how far it has come.
        shown = nullcontext() if is_terminal(sys.stdout) else progress("erase", "users", len(users))
        try:
            with shown as bar:
                for user in users:
                    with uninterrupted():
                        self._erase_one(user, suppress, receipts)
                    if bar:
                        bar.add(1)
        except BaseException:
            complain(f"It broke off: {len(receipts):,} of {len(users):,} users are erased.")
            raise
        return receipts

    def _erase_one(self, user: str, suppress: bool, receipts: list[Receipt]) -> None:
        self._limits.check_reserve()
        receipt = self._erasing.erase(user, suppressed=suppress)
        is_cleared = False
        try:
            is_cleared = asyncio.run(self._clear())
        finally:
            receipts.append(replace(receipt, cache_cleared=is_cleared))
            say(msgspec.json.encode(receipts[-1]))

    def unsuppress(self, users: list[str]) -> None:
        count = self._suppressing.remove(users, _WRITERS_END_WITHIN_S)
        say(f"Of {len(users):,} users {count:,} were suppressed, and are not any more.")
        self.tell_suppressed()

    def tell_suppressed(self) -> None:
        listed = self._suppressing.get()
        since = f", the first since {listed.since:%Y-%m-%d %H:%M}Z" if listed.since else ""
        say(f"{listed.users:,} users are suppressed{since}.")

    async def _clear(self) -> bool:
        identity = Identity(self._erasing.get_identity())
        cache = open_cache(self._settings, self._redis_url, identity)
        try:
            return await clear(cache)
        finally:
            await cache.close()


@contextmanager
def _work(settings: Settings) -> Iterator[_Work]:
    with servers(settings) as endpoints:
        prepare_embedded(settings, endpoints.database_url)
        with closing(connect(endpoints.database_url, "analytics-erase")) as conn:
            conn.autocommit = True
            repos = EraseRepo(conn), SuppressionRepo(conn)
            try:
                yield _Work(*repos, settings, endpoints.redis_url)
            except WritersAtWork as exc:
                raise click.ClickException(
                    "a transaction that writes events goes on and on, and nobody can be suppressed "
                    "before it ends: nothing was done"
                ) from exc
