"""Log lines: one JSON object each, with the id of the request."""

import json
import logging
import os
import pty
import re
from collections.abc import Iterator

import pytest

from config.logging import configure_logging, request_id
from config.settings import Settings


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_a_line_is_an_object_with_the_request(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    token = request_id.set("abc-1")
    logging.getLogger("analytics.access").info("request", extra={"status": 200})
    request_id.reset(token)
    line = json.loads(capsys.readouterr().err)
    assert line.pop("timestamp")
    assert line == {
        "level": "INFO",
        "logger": "analytics.access",
        "message": "request",
        "request_id": "abc-1",
        "status": 200,
    }


def test_a_line_break_does_not_make_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    logging.getLogger("x").warning('a\n{"forged": 1}')
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", "text")
    logging.getLogger("x").info("unsaid")
    logging.getLogger("x").warning("said")
    assert capsys.readouterr().err.endswith(" WARNING x: said\n")


def test_text_tells_what_json_does(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    token = request_id.set("abc-1")
    line = {"method": "GET", "route": "/analytics/event-counts", "status": 200}
    logging.getLogger("analytics.access").info("request", extra={**line, "seconds": 0.0123})
    request_id.reset(token)
    moment, text = re.fullmatch(r"(\S+ \S+) (.+)\n", capsys.readouterr().err).groups()  # type: ignore[union-attr]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", moment)
    assert text == (
        "INFO access: request method=GET route=/analytics/event-counts status=200 seconds=0.0123 "
        "request_id=abc-1"
    )


def test_text_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    logging.getLogger("x").warning("a\nb", extra={"failure": 'c\n2026-11-30 "d"', "empty": ""})
    output = capsys.readouterr().err
    assert output.endswith('WARNING x: a\\nb failure="c\\n2026-11-30 \\"d\\"" empty=""\n')
    assert len(output.splitlines()) == 1


def test_text_has_the_traceback_below(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    try:
        raise ZeroDivisionError("of the test")
    except ZeroDivisionError:
        logging.getLogger("x").exception("it failed")
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith(" ERROR x: it failed")
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-1] == "ZeroDivisionError: of the test"


@pytest.mark.parametrize(("on_terminal", "form"), [(True, "text"), (False, "json")])
def test_text_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch, on_terminal: bool, form: str
) -> None:
    primary, secondary = pty.openpty()
    read, write = os.pipe()
    with os.fdopen(secondary if on_terminal else write, "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        log_format = Settings().log_format
        monkeypatch.undo()
    for descriptor in (primary, read, write if on_terminal else secondary):
        os.close(descriptor)
    assert log_format == form
