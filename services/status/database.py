"""Status checks of the data in PostgreSQL: schema, rollups, keys, retention, adopted tables."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from config.invocation import invocation
from config.settings import Settings, variable
from repo.adopt.trigger import trigger_name
from repo.columns.summary import ColumnSummary
from repo.status import LastFold, StatusRepo, Unreadable
from services.container import may_be_open
from services.status.check_result import CheckResult, State, Values, day, duration, size
from utils.formats import quantity

_MAX_COUNTED = 1_000_000  # events of the tail; a larger tail is reported as "at least"
_MAX_FOLD_AGE_S = 60.0  # a rollup worker folds at least every 30 s, even an empty tail
# The statistics of today are recomputed at least every 15 minutes, and the catalogue every 5.
_MAX_COUNT_AGE_S = 3600.0
# The values of `application_name` in the sessions of these commands.
_ROLLUP, _ADOPT, _RETAIN = "analytics-rollup", "analytics-adopt", "analytics-retain"
_MAX_LAZY_EVENTS = 1_000  # fewer events wait for more of them
_MAX_WRITE_AGE_S = 600.0  # a chunk of a backfill is written in seconds
_MAX_ERASURE_AGE_S = 86_400.0
_FROM_EVENTS = "questions are answered from the events, exactly but more slowly"


@dataclass(frozen=True, slots=True)
class Context:
    """The input of the checks; `sessions` counts the sessions by `application_name`."""

    repo: StatusRepo
    settings: Settings
    sessions: dict[str, int]


def schema(context: Context) -> Iterator[CheckResult]:
    """The check of the schema.

    Raises: MigrationError, if there is none, or if its migrations are not those of this program.
    """
    applied, missing = context.repo.pending_migrations()
    values = {"applied": applied, "pending": max(missing, 0)}
    summary = f"{applied} migrations applied, {max(missing, 0)} pending"
    if missing > 0:
        yield CheckResult("schema", "action", summary, f"run `{invocation('migrate')}`", values)
    elif missing < 0:
        newer = f"{summary}; {-missing} of them belong to a newer version of this program"
        yield CheckResult("schema", "ok", newer, values=values)
    else:
        yield CheckResult("schema", "ok", summary, values=values)


def rollups(context: Context) -> Iterator[CheckResult]:
    state, fold = context.repo.state_of_rollups(), context.repo.last_fold()
    events = context.repo.unfolded_events(_MAX_COUNTED)
    workers = context.sessions.get(_ROLLUP, 0)
    values: Values = {
        "answers_from": "rollups" if state == "ok" else "events",
        "state": state,
        "unfolded_events": events,
        "lag_s": round(fold.age_s, 1) if events and fold.age_s is not None else 0,
        "last_fold_at": fold.at,
        "rollup_workers": workers,
        "generations_in_progress": fold.building,
    }
    if state == "ok":
        yield _fold_check(fold, events, workers, values)
    elif state == "none" and not events:
        yield CheckResult("rollups", "ok", "no events are stored yet", values=values)
    else:
        yield _missing_check(state == "foreign", workers, values)


def _fold_check(fold: LastFold, events: int, workers: int, values: Values) -> CheckResult:
    age_s = fold.age_s or 0
    some = f"{'at least ' if events >= _MAX_COUNTED else ''}{quantity(events, 'event')}"
    lag = f"{some} not folded yet, for up to {duration(age_s)}" if events else "all events folded"
    building = "; being rebuilt" if fold.building else ""
    summary = f"{lag}; last fold {duration(age_s)} ago{building}"
    if age_s <= _MAX_FOLD_AGE_S:
        return CheckResult("rollups", "ok", summary, values=values)
    if workers:
        action = "a rollup worker is connected but does not fold: see its log"
    else:
        action = f"no rollup worker is connected: start `{invocation('serve')}`, or `{_rollup()}`"
    return CheckResult("rollups", "action", summary, action, values)


def _missing_check(is_foreign: bool, workers: int, values: Values) -> CheckResult:
    why = "of the database that this one was restored from" if is_foreign else "not built yet"
    if workers:
        summary = f"{why}; being built: {_FROM_EVENTS}"
        return CheckResult("rollups", "ok", summary, values=values)
    action = f"start `{invocation('serve')}`, or run `{invocation('rollup --once')}`"
    return CheckResult("rollups", "action", f"{why}: {_FROM_EVENTS}", action, values)


def _rollup() -> str:
    return invocation("rollup")


def columns(context: Context) -> Iterator[CheckResult]:
    found, workers = context.repo.columns(_MAX_COUNTED), context.sessions.get(_ROLLUP, 0)
    if found is None:
        yield CheckResult("columns", "ok", "written after the rollups", values={"state": "none"})
        return
    values: Values = {"state": "building" if found.is_backfilling else "ok", **found._asdict()}
    summary = f"{_column_lag(found)}; {quantity(found.chunks, 'chunk')}, {size(found.bytes)}"
    if found.pending_erasures:
        users = quantity(found.pending_erasures, "erased user")
        summary += f"; {users} still to be removed from chunks, and in no answer"
    action = _column_action(found, workers)
    yield CheckResult("columns", "action" if action else "ok", summary, action, values)


def _column_lag(found: ColumnSummary) -> str:
    if found.written_at is None:
        return f"nothing written yet, {quantity(found.lag_events, 'event')} to write"
    lag = "all folded events written"
    if found.lag_events:
        lag = f"{quantity(found.lag_events, 'event')} not written yet"
    lag = f"{lag}, last batch {duration(found.written_age_s or 0)} ago"
    if not found.is_backfilling:
        return lag
    since = f", back to {day(found.backfilled_from)}" if found.backfilled_from else ""
    events = quantity(found.backfill_events, "older event")
    return f"{lag}; being built{since}: about {events} to go, which filters may not read yet"


def _column_action(found: ColumnSummary, workers: int) -> str:
    """Return what an operator has to do; empty if nothing."""
    is_idle = found.written_age_s is None or found.written_age_s > _MAX_WRITE_AGE_S
    is_behind = found.is_backfilling or found.lag_events >= _MAX_LAZY_EVENTS
    if not workers and (found.lag_events or found.is_backfilling or found.pending_erasures):
        return f"no rollup worker is connected: start `{invocation('serve')}`, or `{_rollup()}`"
    if is_behind and is_idle and found.written_at is not None:
        return "a rollup worker is connected but writes no columns: see its log"
    if found.pending_erasure_age_s > _MAX_ERASURE_AGE_S:
        return "erased users have been in chunks for a day: see the log of the rollup worker"
    return ""


def column_paths(context: Context) -> Iterator[CheckResult]:
    found, limit = context.repo.columns(1), context.settings.column_paths
    paths = found.paths if found else 0
    values: Values = {"paths": paths, "limit": limit, "left_out": bool(found and found.left_out)}
    summary = f"{paths:,} of at most {limit:,} properties have columns"
    if found is None or not found.left_out:
        yield CheckResult("column_paths", "ok", summary, values=values)
    elif paths < limit:
        summary += "; others were left out before, and get columns with their next events"
        yield CheckResult("column_paths", "ok", summary, values=values)
    else:
        action = f"raise {variable('column_paths')}, or send fewer different properties"
        summary += "; others are left out, and cannot be filtered by"
        yield CheckResult("column_paths", "action", summary, action, values)


def statistics(context: Context) -> Iterator[CheckResult]:
    due, age_s = context.repo.due_days(), context.repo.statistics_age_s()
    values = {"due_days": due, "last_count_age_s": round(age_s, 1) if age_s is not None else None}
    name, days = "daily_statistics", quantity(due, "day")
    if not due:
        yield CheckResult(name, "ok", "all days are up to date", values=values)
    elif not context.sessions.get(_ROLLUP):
        action = f"run `{invocation('rollup --once')}`"
        yield CheckResult(name, "action", f"{days} to be recomputed", action, values)
    elif age_s is not None and age_s > _MAX_COUNT_AGE_S:
        summary = f"{days} to be recomputed, and none was for {duration(age_s)}"
        action = "see the log of the rollup worker: it names the days that fail"
        yield CheckResult(name, "action", summary, action, values)
    else:
        yield CheckResult(name, "ok", f"{days} to be recomputed", values=values)


def catalogue(context: Context) -> Iterator[CheckResult]:
    age_s = context.repo.catalogue_age_s()
    values: Values = {"age_s": round(age_s, 1) if age_s is not None else None}
    if age_s is None:
        summary = "properties are counted by each question"
        yield CheckResult("catalogue", "ok", summary, values=values)
        return
    summary = f"properties were counted {duration(age_s)} ago"
    action = ""
    if age_s > _MAX_COUNT_AGE_S and context.sessions.get(_ROLLUP):
        action = "a rollup worker is connected but does not count them: see its log"
    elif age_s > _MAX_COUNT_AGE_S:
        action = f"no rollup worker is connected: start `{invocation('serve')}`, or `{_rollup()}`"
    yield CheckResult("catalogue", "action" if action else "ok", summary, action, values)


def future_events(context: Context) -> Iterator[CheckResult]:
    found = context.repo.future_events()
    summary = "none"
    if found.first and found.last:
        range_ = f"from {day(found.first)} to {day(found.last)}"
        summary = f"{quantity(found.events, 'event')} {range_}, which count from their time on"
    yield CheckResult("future_events", "ok", summary, values=found._asdict())


def keys(context: Context) -> Iterator[CheckResult]:
    found = context.repo.keys()
    scopes = f"{found.read} read, {found.write} write, {found.admin} admin"
    old = f"{found.revoked} revoked, {found.expired} expired"
    summary = f"{found.active} active ({scopes}), {old}"
    values = found._asdict()
    try:
        used_at = context.repo.keys_used_at()
        summary += f"; last used on {day(used_at)}" if used_at else "; never used"
        values["last_used_at"] = used_at
    except Unreadable as exc:
        summary += f"; their last use is unknown: {exc}"
    if found.active:
        yield CheckResult("keys", "ok", summary, values=values)
    elif may_be_open(context.settings) and not found.revoked + found.expired:
        open_ = f"{summary}; on this machine none is needed until one is created"
        yield CheckResult("keys", "ok", open_, values=values)
    else:
        action = f"create one: `{invocation('keys create NAME --scope read')}`"
        yield CheckResult("keys", "action", summary, action, values)


def retention(context: Context) -> Iterator[CheckResult]:
    found = context.repo.retention()
    values: Values = {"horizon": found.horizon, "refused_before": found.accepted_from}
    if found.accepted_from is None:
        yield CheckResult("retention", "ok", "all events are kept", values=values)
        return
    is_published = found.horizon == found.accepted_from
    is_dropped = is_published and not context.repo.has_expired_events()
    values["is_complete"] = is_dropped
    summary = f"events before {day(found.accepted_from)} are rejected"
    if is_dropped:
        yield CheckResult("retention", "ok", f"{summary} and were dropped", values=values)
    elif context.sessions.get(_RETAIN):
        yield CheckResult("retention", "ok", f"{summary} and are being dropped", values=values)
    else:
        action = f"run `{invocation('retain --raw AGE')}` again, with the AGE of that run"
        yield CheckResult(
            "retention", "action", f"{summary}, but not all were dropped", action, values
        )


def adopted_tables(context: Context) -> Iterator[CheckResult]:
    """One check per adopted table."""
    is_copying = bool(context.sessions.get(_ADOPT))
    trigger = trigger_name(context.settings.database_schema)
    for table in context.repo.adopted_tables():
        summary, action = "new rows become events", ""
        adopt = invocation(f"adopt --table {table.name}")
        if table.is_released:
            summary = "released"
            if table.trigger_fires is not None:
                summary, action = "released, but its trigger exists", f"run `{adopt} --release`"
        elif table.trigger_fires is None and not table.exists:
            summary = "the table does not exist any more; its events are kept"
        elif table.trigger_fires is None:
            summary, action = "the trigger is missing", f"run `{adopt}` with its options again"
        elif not table.trigger_fires:
            summary = "the trigger is disabled"
            action = f"ALTER TABLE {table.name} ENABLE TRIGGER {trigger}, then run `{adopt}`"
        elif table.pages_left:
            summary = f"{quantity(table.pages_left, 'page')} not copied yet"
            action = "" if is_copying else f"run `{adopt}` with its options again"
        if table.rejected_rows:
            summary += f"; {quantity(table.rejected_rows, 'row')} rejected"
        values = table._asdict()
        state: State = "action" if action else "ok"
        yield CheckResult("adopted_table", state, summary, action, values, table.name)


CHECKS: dict[str, Callable[[Context], Iterator[CheckResult]]] = {
    "rollups": rollups,
    "columns": columns,
    "column_paths": column_paths,
    "daily_statistics": statistics,
    "catalogue": catalogue,
    "future_events": future_events,
    "keys": keys,
    "retention": retention,
    "adopted_table": adopted_tables,
}
"""All checks but that of the schema, by name."""
