"""Catalogue worker: counts the properties of all events while the service runs."""

import logging
import time
from contextlib import closing
from functools import partial
from typing import NoReturn

from common.metrics import CATALOGUE_AGE, CATALOGUE_SECONDS
from config.database import connect
from repo.catalogue.count import count_if_due, read_age
from services.background.repeat import Pace, repeat_forever

log = logging.getLogger("analytics.catalogue")

# Rest 4 times as long as the last count took, so that it takes a fifth of a processor at most, or
# as long as it took while there are no counts, which makes questions take longer.
_PACE = Pace(every_s=10, rest_factor=4)
_REST_FACTOR_WITHOUT_COUNTS = 1


def count_forever(database_url: str) -> NoReturn:
    """Count the properties whenever that is due, until the process ends."""
    # In a thread and with a connection of its own, so that folding does not wait for it.
    count = partial(_count_once, database_url)
    repeat_forever(count, _PACE, log, "properties could not be counted")


def _count_once(database_url: str) -> float | None:
    """Count the properties if that is due; return the rest factor while there are no counts."""
    with closing(connect(database_url, "analytics-catalogue")) as conn:
        conn.autocommit = True
        began = time.monotonic()
        if count_if_due(conn):
            CATALOGUE_SECONDS.inc(time.monotonic() - began)
        age_s = read_age(conn)
        CATALOGUE_AGE.set(age_s)
        return None if age_s > 0 else _REST_FACTOR_WITHOUT_COUNTS
