"""Log lines: one JSON object each, or plain text, with the id of the request."""

import logging
import sys
from contextvars import ContextVar

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.msgspec import MsgspecFormatter

from utils.tracing import ids

request_id: ContextVar[str] = ContextVar("request_id", default="-")

_FIELDS = "%(levelname)s %(name)s %(message)s %(request_id)s"
_TEXT = "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"


class _WithRequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        vars(record).update(ids())
        return True


def configure_logging(level: str, form: str) -> None:
    """Send all log lines to standard error in one form, uvicorn's among them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_WithRequestId())
    handler.setFormatter(_formatter(form))
    _leave_out_what_nobody_sees()
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _leave_out_what_nobody_sees() -> None:
    """Half of what a line costs, as Python's logging HOWTO has it under "Optimization"."""
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None


def _formatter(form: str) -> logging.Formatter:
    if form == "text":
        return logging.Formatter(_TEXT)
    renamed = {"levelname": "level", "name": "logger"}
    unsaid = [*RESERVED_ATTRS, "color_message"]  # uvicorn's, for terminals
    return MsgspecFormatter(_FIELDS, rename_fields=renamed, reserved_attrs=unsaid, timestamp=True)
