"""Verify worker: verifies samples of the rollups as long as the service runs."""

import logging
import time
from contextlib import closing
from typing import NoReturn

from common.metrics import VERIFIED_ROWS, VERIFY_DIFFERENCES
from config.database import connect
from config.database_errors import DatabaseError
from repo.verify.report import Findings
from repo.verify.sample import verify_sample

log = logging.getLogger("analytics.verify")

_EVERY_S = 15.0
# Rest 30 times as long as the last sample took. A slot with millions of events takes seconds to
# verify, and this limits the load on PostgreSQL to about 3 %.
_REST_FACTOR = 30
_MAX_REST_S = 900.0
_MAX_LOGGED = 10


def verify_forever(database_url: str) -> NoReturn:
    """Verify a sample every 15 s or less often, until the process ends."""
    # In a thread and with a connection of its own, so that folding does not wait for it.
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
    """Count and log the result of a sample. Differences stay until a rebuild of the rollups."""
    VERIFIED_ROWS.inc(findings.rows)
    VERIFY_DIFFERENCES.inc(findings.differences)
    for difference in findings.listed[:_MAX_LOGGED]:
        log.error("rollups differ from the events", extra={"difference": str(difference)})
