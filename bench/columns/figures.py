"""The part `columns`: how fast columns are written, how large they are, and what changes cost."""

from collections.abc import Callable

from psycopg2.extensions import connection

from bench.columns.costs import change_costs
from bench.columns.steady import steady_figures
from bench.columns.writers import run_writer
from bench.stored_set import Stores, working_copy
from tests.source_comparison import connected

_SIZES = """
select pg_total_relation_size('events'), sum(pg_total_relation_size(relid))
from   unnest('{column_state, column_chunks, column_data, column_paths, batch_log}'::regclass[])
       as columns (relid)
"""
_CHUNKS = "select count(*) from column_chunks"


def column_figures(stores: Stores, events: int, say: Callable[[str], None]) -> dict[str, float]:
    """Return all figures by their names, which end with the unit."""
    figures: dict[str, float] = {}
    with working_copy(stores, "columns", use_up=False) as url:
        for kind in ("fold", "columns"):
            run = run_writer(kind, url)
            figures[f"{kind}_alone_per_s"] = events / run.seconds
            figures[f"{kind}_alone_max_mb"] = run.max_mb
            say(f"columns: {kind} of {events:,} events in {run.seconds:.1f} s")
        with connected(url) as conn:
            figures |= _sizes(conn, events) | change_costs(conn)
    return figures | steady_figures(stores, say)


def _sizes(conn: connection, events: int) -> dict[str, float]:
    with conn.cursor() as cur:
        cur.execute(_SIZES)
        table, columns = cur.fetchone() or (0, 0)
        cur.execute(_CHUNKS)
        (chunks,) = cur.fetchone() or (0,)
    return {
        "events_bytes_per_event": table / events,
        "columns_bytes_per_event": float(columns) / events,
        "chunks": chunks,
    }
