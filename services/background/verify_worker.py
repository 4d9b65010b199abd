"""Verify worker: verifies samples of the rollups while the service runs."""

import logging
from contextlib import closing
from functools import partial
from typing import NoReturn

from common.metrics import VERIFIED_ROWS, VERIFY_DIFFERENCES
from config.database import connect
from repo.verify.report import Findings
from repo.verify.sample import verify_sample
from services.background.repeat import Pace, repeat_forever

log = logging.getLogger("analytics.verify")

# Rest 30 times as long as the last sample took. A slot with millions of events takes seconds to
# verify, and this limits the load on PostgreSQL to about 3 %.
_PACE = Pace(every_s=15, rest_factor=30, max_rest_s=900)
_MAX_LOGGED = 10


def verify_forever(database_url: str) -> NoReturn:
    """Verify a sample every 15 s or less often, until the process ends."""
    # In a thread and with a connection of its own, so that folding does not wait for it.
    verify = partial(_verify_once, database_url)
    repeat_forever(verify, _PACE, log, "a sample could not be verified")


def _verify_once(database_url: str) -> None:
    with closing(connect(database_url, "analytics-verify")) as conn:
        conn.autocommit = True
        _publish(verify_sample(conn))


def _publish(findings: Findings) -> None:
    """Count and log the result of a sample. Differences stay until a rebuild of the rollups."""
    VERIFIED_ROWS.inc(findings.rows)
    VERIFY_DIFFERENCES.inc(findings.differences)
    for difference in findings.listed[:_MAX_LOGGED]:
        log.error("rollups differ from the events", extra={"difference": str(difference)})
