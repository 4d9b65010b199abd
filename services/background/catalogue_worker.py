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
# Rest 4 times as long as the last count took, so that it takes a fifth of a processor at most.
_REST_FACTOR = 4


def count_forever(database_url: str) -> NoReturn:
    """Count the properties whenever that is due, until the process ends."""
    # In a thread and with a connection of its own, so that folding does not wait for it.
    while True:
        time.sleep(_EVERY_S)
        began = time.monotonic()
        try:
            _count_once(database_url)
        except DatabaseError as exc:
            log.warning("properties could not be counted", extra={"failure": str(exc)})
        except Exception:
            log.exception("properties could not be counted")
        time.sleep((time.monotonic() - began) * _REST_FACTOR)


def _count_once(database_url: str) -> None:
    with closing(connect(database_url, "analytics-catalogue")) as conn:
        conn.autocommit = True
        began = time.monotonic()
        if count_if_due(conn):
            CATALOGUE_SECONDS.inc(time.monotonic() - began)
        CATALOGUE_AGE.set(read_age(conn))
