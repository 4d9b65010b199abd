"""How far long work has come is shown: a bar on a terminal, and elsewhere lines."""

import os
import pty
import re
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from commands import _progress
from commands._progress import Progress, progress
from tests.wait_until import wait_until


def test_a_line_tells_what_is_done_of_what() -> None:
    work = Progress("rebuild", "events", 10_000_000)
    work.add(8_000_000)
    work.add(1210, "spans")
    work.add(0, "days")
    assert str(work) == "rebuild: 8,000,000 of 10,000,000 events, 1,210 spans, 0 s"


def test_bytes_are_told_in_their_own_way() -> None:
    work = Progress("events.csv", "B", 55_000_000)
    work.add(12_300_000)
    assert str(work) == "events.csv: 12.3MB of 55.0MB, 0 s"


def test_without_a_total_none_is_told() -> None:
    assert str(Progress("vacuum", "tables", None)) == "vacuum: 0 tables, 0 s"


def test_elsewhere_a_line_comes_now_and_then_also_while_nothing_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_progress, "EVERY_S", 0.01)
    told = ""

    def comes_twice() -> bool:
        nonlocal told
        told += capsys.readouterr().err
        return told.count("\n") >= 2

    with progress("verify", "months", 12) as work:
        work.add(3)
        wait_until(comes_twice, timeout_s=10)
    lines = told.splitlines()
    assert set(lines) == {"verify: 3 of 12 months, 0 s"}


def test_ten_seconds_are_between_lines_and_short_work_is_not_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _progress.EVERY_S == 10
    with progress("verify", "months") as work:
        work.add(1)
    assert capsys.readouterr().err == ""


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard error is one in this block; where to read what it shows."""
    primary, secondary = pty.openpty()
    os.set_blocking(primary, False)
    termios.tcsetwinsize(secondary, (24, 120))
    with os.fdopen(secondary, "w") as stream, monkeypatch.context() as patched:
        patched.setattr("sys.stderr", stream)
        yield primary
    os.close(primary)


def read(primary: int) -> str:
    with suppress(BlockingIOError):
        return os.read(primary, 100_000).decode()
    return ""


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "DRAW_EVERY_S", 0.01)
    shown = ""

    def is_shown(primary: int, text: str) -> bool:
        nonlocal shown
        shown += read(primary)
        return text in shown

    with terminal(monkeypatch) as primary:
        with progress("rebuild", total=200) as work:
            work.add(50)
            work.add(7, "spans")
            wait_until(lambda: is_shown(primary, "50/200"), timeout_s=10)
            work.add(150)
        # The line discipline of a terminal may hand over the last line in parts.
        wait_until(lambda: is_shown(primary, "100%") and shown.endswith("\n"), timeout_s=10)
    assert re.search(r"rebuild:  25%\|.*50/200 .*events/s, 7 spans", shown)


def test_short_work_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as primary:
        with progress("rebuild", total=200) as work:
            work.add(200)
        assert read(primary) == ""
