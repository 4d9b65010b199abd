"""Rows of COPY in batches."""

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import connection

from repo.verify.copy_rows import copy_rows

RECORD = np.dtype([("columns", ">i2"), ("l1", ">i4"), ("number", ">i4"), ("l2", ">i4")])


def read(conn: connection, count: int) -> list[list[tuple[int, bytes]]]:
    batches: list[list[tuple[int, bytes]]] = []

    def take(heads: NDArray[np.void], values: list[bytes]) -> None:
        batches.append(list(zip(heads["number"].tolist(), values, strict=True)))

    statement = """
        copy (select n, repeat('x', n % 3) from generate_series(1, %(count)s) as n)
        to stdout (format binary)
    """.replace("n % 3", "n %% 3")
    with conn.cursor() as cur:
        copy_rows(cur, statement, {"count": count}, RECORD, take)
    return batches


def test_rows_arrive_in_batches(conn: connection) -> None:
    batches = read(conn, 45_000)
    assert [len(batch) for batch in batches] == [20_000, 20_000, 5_000]
    assert batches[0][:3] == [(1, b"x"), (2, b"xx"), (3, b"")]
    assert batches[2][-1] == (45_000, b"")


def test_there_may_be_no_rows(conn: connection) -> None:
    assert read(conn, 0) == []
