"""Logging: lines of JSON or plain text, with the id of the request."""

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
# Attributes of log records that are not extra fields; uvicorn adds `color_message` for terminals.
_RESERVED = {*RESERVED_ATTRS, "color_message", "request_id"}


class _WithRequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        vars(record).update(trace_ids())
        return True


def configure_logging(level: str, form: str) -> None:
    """Send all log lines, including those of uvicorn, to standard error: `form` json or text."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_WithRequestId())
    handler.setFormatter(_formatter(form))
    _skip_unused_fields()
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _skip_unused_fields() -> None:
    # These attributes take half of the time of a log line, and no format uses them. See the section
    # "Optimization" of Python's logging HOWTO.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None


def _formatter(form: str) -> logging.Formatter:
    if form == "text":
        return TextFormatter()
    renames = {"levelname": "level", "name": "logger"}
    reserved = [*_RESERVED - {"request_id"}]
    return MsgspecFormatter(_FIELDS, rename_fields=renames, reserved_attrs=reserved, timestamp=True)


class TextFormatter(logging.Formatter):
    """Formats records as plain text, with the same fields as the lines of JSON.

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
    # A line break in a message must not forge a second log line.
    return record.getMessage().replace("\n", "\\n")


def _format_value(value: object) -> str:
    """The text of a value, quoted unless it is a single word."""
    text = str(value)
    return text if _WORD.fullmatch(text) else json.dumps(text, ensure_ascii=False)
