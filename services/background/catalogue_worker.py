"""Catalogue worker: counts the properties of all events as long as the service runs."""

import logging
import time
from contextlib import closing
from typing import NoReturn

from common.metrics import CATALOGUE_AGE, CATALOGUE_SECONDS
from config.database import connect
from config.database_errors import DatabaseError
from repo.catalogue.count import count_if_due, read_age

log = logging.getLogger("analytics.catalogue")

_EVERY_S = 10.0
# Rest 4 times as long as the last count took, so that it takes a fifth of a processor at most, or
# as long as it took while there are no counts, which makes questions take longer.
_REST_FACTOR, _REST_FACTOR_WITHOUT = 4, 1


def count_forever(database_url: str) -> NoReturn:
    """Count the properties whenever that is due, until the process ends."""
    # In a thread and with a connection of its own, so that folding does not wait for it.
    while True:
        time.sleep(_EVERY_S)
        began, factor = time.monotonic(), _REST_FACTOR
        try:
            if not _count_once(database_url):
                factor = _REST_FACTOR_WITHOUT
        except DatabaseError as exc:
            log.warning("properties could not be counted", extra={"failure": str(exc)})
        except Exception:
            log.exception("properties could not be counted")
        time.sleep((time.monotonic() - began) * factor)


def _count_once(database_url: str) -> bool:
    """Count the properties if that is due; return whether there are counts."""
    with closing(connect(database_url, "analytics-catalogue")) as conn:
        conn.autocommit = True
        began = time.monotonic()
        if count_if_due(conn):
            CATALOGUE_SECONDS.inc(time.monotonic() - began)
        age_s = read_age(conn)
        CATALOGUE_AGE.set(age_s)
        return age_s > 0
