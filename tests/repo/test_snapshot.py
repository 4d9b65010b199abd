"""The snapshot that verification reads, and why there may be none."""

import psycopg2
import pytest
from psycopg2.extensions import connection

from repo.rollups.rollup_writer import RollupWriter
from repo.verify.snapshot import Span, Unverifiable, snapshot
from tests.servers import Cluster
from utils.time.zones import zone


def test_rollups_are_needed(conn: connection) -> None:
    with pytest.raises(Unverifiable, match="there are no rollups yet"), snapshot(conn):
        pass


def test_a_schema_is_needed(cluster: Cluster) -> None:
    url = cluster.empty_database()
    conn = psycopg2.connect(url)
    conn.autocommit = True
    with pytest.raises(Unverifiable, match="the schema is missing: run"), snapshot(conn):
        pass
    conn.close()
    cluster.drop(url)


def test_a_snapshot_is_read_only_and_ends(conn: connection) -> None:
    RollupWriter(conn, [zone("UTC")]).catch_up()
    with snapshot(conn) as (cur, state):
        assert state.is_of_this_cluster
        with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
            cur.execute("delete from events")
    assert conn.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_IDLE


def test_spans_intersect() -> None:
    assert Span(0, 10).intersection(Span(5, 20)) == Span(5, 10)
    assert Span(-5, 10).from_epoch() == Span(0, 10)
