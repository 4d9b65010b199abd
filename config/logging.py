"""Log lines: one JSON object each, or plain text, with the id of the request."""

import json
import logging
import re
import sys
from contextvars import ContextVar

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.msgspec import MsgspecFormatter

from utils.tracing import trace_ids

request_id: ContextVar[str] = ContextVar("request_id", default="-")

_FIELDS = "%(levelname)s %(name)s %(message)s %(request_id)s"
_WORD = re.compile(r"[^\s\"'=]+")
_RESERVED = {*RESERVED_ATTRS, "color_message", "request_id"}
"""What stands elsewhere in a line; `color_message` is uvicorn's, for terminals."""


class _WithRequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        vars(record).update(trace_ids())
        return True


def configure_logging(level: str, form: str) -> None:
    """Send all log lines to standard error in one form, uvicorn's among them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_WithRequestId())
    handler.setFormatter(_formatter(form))
    _skip_unused_fields()
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _skip_unused_fields() -> None:
    """Half of what a line costs, as Python's logging HOWTO has it under "Optimization"."""
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None


def _formatter(form: str) -> logging.Formatter:
    if form == "text":
        return TextFormatter()
    renames = {"levelname": "level", "name": "logger"}
    reserved = [*_RESERVED - {"request_id"}]
    return MsgspecFormatter(_FIELDS, rename_fields=renames, reserved_attrs=reserved, timestamp=True)


class TextFormatter(logging.Formatter):
    """Lines for people, with all fields that the lines of JSON have.

    `2026-11-30 09:15:02.113 INFO access: request method=GET status=200 request_id=4f1c`
    """

    default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in _RESERVED}
        fields["request_id"] = getattr(record, "request_id", "-")
        extras = [
            f"{name}={_format_value(value)}" for name, value in fields.items() if value != "-"
        ]
        name = record.name.removeprefix("analytics.")
        line = f"{self.formatTime(record)} {record.levelname} {name}: {_on_one_line(record)}"
        traceback = [self.formatException(record.exc_info)] if record.exc_info else []
        return "\n".join([" ".join([line, *extras]), *traceback])


def _on_one_line(record: logging.LogRecord) -> str:
    return record.getMessage().replace("\n", "\\n")


def _format_value(value: object) -> str:
    """In quotes where it would not be one word."""
    text = str(value)
    return text if _WORD.fullmatch(text) else json.dumps(text, ensure_ascii=False)
