"""Users are erased while many write and two fold: each answer stays that of the events."""

import random
import time
from contextlib import ExitStack

import pytest
from psycopg2.extensions import connection

from commands.verify import verify_all
from common.questions.base import Counting
from common.questions.event_counts import EventCounts
from repo.lifecycle.erasure import EraseRepo
from repo.lifecycle.suppression import SuppressionRepo
from repo.rollups.rollup_writer import RollupWriter
from tests.example_counts import seconds
from tests.repo.test_erase import in_sets, ordinals, rows
from tests.repo.test_freshness import WRITERS, ZONES, Work, reader, repeated, rollup_writer, writer
from tests.source_comparison import connected, open_asker

SECONDS = seconds(4)


def eraser(url: str, erased: list[str]) -> Work:
    def work(rng: random.Random) -> None:
        user = f"u{rng.randrange(40)}"
        with connected(url) as conn:
            EraseRepo(conn).erase(user)
            erased.append(user)
        time.sleep(rng.uniform(0, 0.1))

    return work


@pytest.mark.thorough
def test_answers_are_right_while_users_are_erased(database_url: str, conn: connection) -> None:
    compared: list[Counting] = []
    failures: list[Exception] = []
    erased: list[str] = []
    with ExitStack() as stack:
        RollupWriter(conn, ZONES).catch_up()
        asker = stack.enter_context(open_asker(database_url))
        works = [writer(database_url)] * WRITERS + [rollup_writer(database_url)] * 2
        works += [reader(asker, compared), eraser(database_url, erased)]
        with ExitStack() as running:
            for seed, work in enumerate(works):
                running.enter_context(repeated(work, random.randrange(10**6) + seed, failures))
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline and not failures:
                time.sleep(0.05)
            SuppressionRepo(conn).add([f"u{n}" for n in range(40)], 30)
            for n in range(40):
                EraseRepo(conn).erase(f"u{n}", is_suppressed=True)
            assert rows(conn, "select from events where user_id ~ '^u[0-9]+$'") == []
        if failures:
            raise failures[0]
        assert rows(conn, "select from events where user_id ~ '^u[0-9]+$'") == []
        RollupWriter(conn, ZONES).catch_up()
        asker.compare(EventCounts(last="5d", interval="day"))
    print(len(erased), "erased beside", len(compared), "comparisons")
    assert len(erased) > SECONDS
    assert in_sets(conn) <= ordinals(conn)
    assert verify_all(database_url, ZONES).listed == []
