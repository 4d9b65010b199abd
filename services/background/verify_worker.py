"""Verifying samples of the rollups for as long as the service runs."""

import logging
import time
from contextlib import closing
from typing import NoReturn

from common.metrics import DRIFT, VERIFIED_ROWS
from config.database import connect
from config.database_errors import DatabaseError
from repo.verify.report import Findings
from repo.verify.sample import verify_sample

log = logging.getLogger("analytics.verify")

_EVERY_S = 15.0
_REST_FACTOR = 30
"""After a sample there is none for so many times as long as it took: where a quarter of an hour
holds millions of events each takes seconds, of which others must notice little."""
_MAX_REST_S = 900.0
_MAX_LOGGED = 10


def verify_forever(database_url: str) -> NoReturn:
    """Beside the folder and not between two folds, which must not wait for it."""
    while True:
        time.sleep(_EVERY_S)
        began = time.monotonic()
        try:
            _publish(_verify_once(database_url))
        except DatabaseError as exc:
            log.warning("a sample could not be verified", extra={"failure": str(exc)})
        except Exception:
            log.exception("a sample could not be verified")
        time.sleep(min((time.monotonic() - began) * _REST_FACTOR, _MAX_REST_S))


def _verify_once(database_url: str) -> Findings:
    with closing(connect(database_url, "analytics-verify")) as conn:
        conn.autocommit = True
        return verify_sample(conn)


def _publish(findings: Findings) -> None:
    """What differs stays so until somebody has all made anew."""
    VERIFIED_ROWS.inc(findings.rows)
    DRIFT.inc(findings.differences)
    for difference in findings.listed[:_MAX_LOGGED]:
        log.error("rollups differ from the events", extra={"difference": str(difference)})
