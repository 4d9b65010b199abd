"""Repeat a background task at a pace that limits its share of the time."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from logging import Logger
from typing import NoReturn

from config.database_errors import DatabaseError


@dataclass(frozen=True, slots=True)
class Pace:
    """The pauses of a background task."""

    every_s: float
    """The pause before each run."""
    rest_factor: float
    """The pause after a run, as a multiple of its duration."""
    max_rest_s: float = math.inf


def repeat_forever(
    task: Callable[[], float | None], pace: Pace, log: Logger, failure: str
) -> NoReturn:
    """Run a task at a pace until the process ends; an error is logged as `failure`.

    The task may return another `rest_factor` for the pause after this run.
    """
    while True:
        time.sleep(pace.every_s)
        began, factor = time.monotonic(), pace.rest_factor
        try:
            factor = task() or factor
        except DatabaseError as exc:
            log.warning(failure, extra={"failure": str(exc)})
        except Exception:
            log.exception(failure)
        time.sleep(min((time.monotonic() - began) * factor, pace.max_rest_s))
