"""python main.py rollup"""

import time
from contextlib import closing
from pathlib import Path
from threading import Thread

import click

from commands._help import DATABASE, Command
from commands._prepare import check, prepare, refuse_foreign_tables
from commands._progress import progress
from commands._report import report
from common.metric_values import share_metrics
from config.database import connect
from config.invocation import invocation
from config.logging import configure_logging
from config.settings import Settings, load_settings
from repo.rollups.folder import Folder
from services.rollup import fold_forever
from services.servers import databases
from services.storage import storage_limits
from services.verifying import verify_forever
from utils.signals import stoppable

_SHOWN = 5
_COUNTED = 1_000_000


@click.command(
    cls=Command,
    settings=(
        *DATABASE,
        "fold_database_url",
        "min_free_mb",
        "time_zones",
        "metric_events",
        "log_format",
    ),
    exit_codes={0: "With --once or --rebuild: all is folded."},
)
@click.option("--once", is_flag=True, help="Fold what is there, and stop.")
@click.option("--rebuild", is_flag=True, help="Make all anew while questions go on, and stop.")
@click.option("--metrics", type=click.Path(path_type=Path), hidden=True)
def rollup(once: bool, rebuild: bool, metrics: Path | None) -> None:
    """Keep the rollups up with the events; `serve` does so by itself."""
    settings = load_settings()
    if metrics:  # those of the service that started it
        share_metrics(metrics)
    configure_logging(settings.log_level, settings.log_format)
    with databases(settings) as found:
        if not settings.database_url:
            prepare(found.owner)
        url = found.url("folder")
        limits = storage_limits(settings)
        if once or rebuild:
            check(url)
            limits.check_reserve()
            _fold(url, settings, rebuild=rebuild)
        else:
            refuse_foreign_tables(url)
            Thread(target=verify_forever, args=(url,), daemon=True).start()
            fold_forever(url, settings.zones, settings.metric_names, limits.check_reserve)


def _fold(url: str, settings: Settings, *, rebuild: bool) -> None:
    with stoppable(), closing(connect(url, "analytics-rollup")) as conn:
        conn.autocommit = True
        fold(Folder(conn, settings.zones), rebuild=rebuild)


def fold(folder: Folder, *, rebuild: bool = False) -> None:
    """Fold all that is there, and say how many events it was. Raises: DatabaseUnavailable."""
    began, end = time.monotonic(), "."

    def told() -> str:
        return f"Folded {folder.folded:,} events in {time.monotonic() - began:.1f} s{end}"

    with report(told, f"It broke off: run `{invocation('rollup --once')}` to fold the rest."):
        if rebuild:
            with progress("rebuild", total=folder.stored()) as bar:
                folder.rebuild(lambda unit, count: bar.add(count, unit))
        else:
            before = folder.counted()
            with progress("fold", total=_waiting(folder)) as bar:
                folder.catch_up(lambda unit, count: bar.add(count, unit))
            end = _end(folder, folder.counted() - before - folder.folded)
    if failed := folder.failed_days:
        days = "1 day" if len(failed) == 1 else f"{len(failed):,} days"
        shown = ", ".join(map(str, failed[:_SHOWN])) + (", ..." if failed[_SHOWN:] else "")
        raise click.ClickException(
            f"{days} of the daily statistics could not be counted, and all others were: {shown}. "
            "The log says why."
        )


def _waiting(folder: Folder) -> int | None:
    """None where there are so many that to count them takes long."""
    waiting = folder.pending(_COUNTED)
    return waiting if waiting < _COUNTED else None


def _end(folder: Folder, by_others: int) -> str:
    """Of the report: what another process, such as `serve`, has folded, and what waits."""
    others = f"; another process folded {by_others:,} meanwhile." if by_others > 0 else ";"
    pending = _pending(folder.pending(_COUNTED))
    if by_others > 0:
        pending = pending.capitalize()
    return f"{others} {pending}{_due(folder.days_due())}"


def _pending(events: int) -> str:
    if not events:
        return "none waits."
    at_least = "at least " if events >= _COUNTED else ""
    return f"{at_least}{events:,} came in meanwhile and {'waits' if events == 1 else 'wait'}."


def _due(days: int) -> str:
    if not days:
        return ""
    which = "1 day" if days == 1 else f"{days:,} days"
    return f" The daily statistics of {which} are not counted yet."
