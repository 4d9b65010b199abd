"""Log lines: one JSON object each, with the id of the request."""

import json
import logging
from collections.abc import Iterator

import pytest

from config.logging import configure_logging, request_id


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
    assert capsys.readouterr().err.endswith("WARNING x [-] said\n")
