"""The command `rollup`."""

import time
from contextlib import closing
from pathlib import Path
from threading import Thread

import click

from commands._help import DATABASE, Command
from commands._migrate_first import apply_migrations, check_schema, check_schema_location
from commands._progress import progress
from commands._report import report
from commands._settings import read_settings_and_log
from common.metric_values import share_metrics
from config.database import connect
from config.invocation import invocation
from config.settings import Settings
from repo.rollups.rollup_writer import RollupWriter
from services.background.catalogue_worker import count_forever
from services.background.rollup_worker import fold_forever
from services.background.verify_worker import verify_forever
from services.disk_space import storage_limits
from services.server_urls import databases
from utils.formats import quantity
from utils.signals import stoppable

_MAX_LISTED_DAYS = 5
_MAX_COUNTED = 1_000_000


@click.command(
    cls=Command,
    settings=(
        *DATABASE,
        "rollup_database_url",
        "min_free_mb",
        "time_zones",
        "metric_events",
        "column_paths",
        "log_format",
    ),
    exit_codes={0: "With --once or --rebuild: all events are folded."},
)
@click.option("--once", is_flag=True, help="Fold all events, then exit.")
@click.option(
    "--rebuild", is_flag=True, help="Build the rollups anew beside the present ones, then exit."
)
@click.option("--metrics", type=click.Path(path_type=Path), hidden=True)
def rollup(once: bool, rebuild: bool, metrics: Path | None) -> None:
    """Run the rollup worker, which folds events as they arrive. `serve` runs one by itself."""
    settings = read_settings_and_log(warns=metrics is None)
    if metrics:  # the directory of the service that started this process
        share_metrics(metrics)
    with databases(settings) as urls:
        if not settings.database_url:
            apply_migrations(urls.owner)
        url = urls.url("rollup")
        limits = storage_limits(settings)
        if once or rebuild:
            check_schema(url)
            limits.check_reserve()
            _fold(url, settings, rebuild=rebuild)
        else:
            check_schema_location(url)
            for worker in (verify_forever, count_forever):
                Thread(target=worker, args=(url,), daemon=True).start()
            fold_forever(
                url,
                settings.zones,
                settings.metric_names,
                limits.check_reserve,
                settings.column_paths,
            )


def _fold(url: str, settings: Settings, *, rebuild: bool) -> None:
    with stoppable(), closing(connect(url, "analytics-rollup")) as conn:
        conn.autocommit = True
        fold(RollupWriter(conn, settings.zones, max_paths=settings.column_paths), rebuild=rebuild)


def fold(writer: RollupWriter, *, rebuild: bool = False) -> None:
    """Fold all events and print how many were folded. Raises: DatabaseUnavailable."""
    began, end = time.monotonic(), "."

    def summary() -> str:
        folded = quantity(writer.folded_events, "event")
        return f"Folded {folded} in {time.monotonic() - began:.1f} s{end}"

    with report(summary, f"Interrupted: run `{invocation('rollup --once')}` to fold the rest."):
        if rebuild:
            with progress("rebuild", total=writer.estimate_stored()) as bar:
                writer.rebuild(lambda unit, count: bar.add(count, unit))
        else:
            before = writer.count_folded()
            with progress("fold", total=_tail_total(writer)) as bar:
                writer.catch_up(lambda unit, count: bar.add(count, unit))
            end = _summary_end(writer, writer.count_folded() - before - writer.folded_events)
    if failed := writer.failed_days:
        days = "1 day" if len(failed) == 1 else f"{len(failed):,} days"
        listed = ", ".join(map(str, failed[:_MAX_LISTED_DAYS])) + (
            ", ..." if failed[_MAX_LISTED_DAYS:] else ""
        )
        raise click.ClickException(
            f"{days} of the daily statistics could not be counted, and all others were: {listed}. "
            "The log says why."
        )


def _tail_total(writer: RollupWriter) -> int | None:
    """The number of events to fold; None if there are too many to count quickly."""
    pending = writer.count_pending(_MAX_COUNTED)
    return pending if pending < _MAX_COUNTED else None


def _summary_end(writer: RollupWriter, by_others: int) -> str:
    """The end of the report: what another process folded meanwhile, and what is left."""
    others = f"; another process folded {by_others:,} meanwhile." if by_others > 0 else ";"
    pending = _pending_text(writer.count_pending(_MAX_COUNTED))
    if by_others > 0:
        pending = pending.capitalize()
    return f"{others} {pending}{_due_text(writer.count_due_days())}"


def _pending_text(events: int) -> str:
    if not events:
        return "none waits."
    at_least = "at least " if events >= _MAX_COUNTED else ""
    return f"{at_least}{events:,} came in meanwhile and {'waits' if events == 1 else 'wait'}."


def _due_text(days: int) -> str:
    if not days:
        return ""
    days_text = "1 day" if days == 1 else f"{days:,} days"
    return f" The daily statistics of {days_text} are not counted yet."
