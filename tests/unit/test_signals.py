"""Signals that end a command do so between its steps."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.pages import ROOT
from utils.signals import CommandInterrupted, stoppable, uninterrupted


@pytest.fixture(autouse=True)
def handled_interrupts() -> Iterator[None]:
    """The process of the tests may ignore them, as a shell's background processes do."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_ends_the_block_with_the_code_of_shells() -> None:
    with pytest.raises(CommandInterrupted) as stopped, stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.code == 143


def test_a_step_comes_to_its_end_first() -> None:
    done = []

    def work() -> None:
        with uninterrupted():
            with uninterrupted():
                os.kill(os.getpid(), signal.SIGINT)
                done.append("inner")
            done.append("outer")
        done.append("next")

    with pytest.raises(CommandInterrupted) as stopped, stoppable():
        work()
    assert done == ["inner", "outer"]
    assert stopped.value.code == 130


def test_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stoppable():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_are_left_alone() -> None:
    before, handlers = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with stoppable(), uninterrupted():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [before]


@pytest.mark.parametrize(("pid", "code"), [(1, 143), (2, -signal.SIGTERM)])
def test_the_first_process_of_a_container_ends_by_a_handler(pid: int, code: int) -> None:
    program = (
        "import os, signal, utils.signals as ours\n"
        f"me, os.getpid = os.getpid(), lambda: {pid}\n"
        "ours.handle_sigterm_as_init()\n"
        "os.kill(me, signal.SIGTERM)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == code
