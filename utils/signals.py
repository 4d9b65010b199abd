"""Handle the signals that end a command, and defer them in blocks that must not be interrupted."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class CommandInterrupted(SystemExit):
    """A signal has ended the command; the exit code is 128 plus its number, as in shells."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def handle_sigterm_as_init() -> None:
    """Exit on SIGTERM as process 1 of a container; do nothing in other processes."""
    # The kernel does not deliver signals without a handler to process 1.
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


class _State:
    depth = 0
    """How many nested `uninterrupted` blocks the main thread is in."""
    received: int | None = None
    """The signal that arrived in them; the last one if there were several."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise CommandInterrupted in the main thread on SIGHUP, SIGINT or SIGTERM in this block."""
    if not _is_main():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # `nohup` ignores SIGHUP, and it stays ignored
            signal.signal(number, _receive)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Defer signals to the end of this block, such as a commit and the count of what it stored.

    Raises: CommandInterrupted at the end, if one arrived.
    """
    if not _is_main():
        yield
        return
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
        if not _State.depth and _State.received is not None:
            number, _State.received = _State.received, None
            raise CommandInterrupted(number)


def _receive(number: int, _: FrameType | None) -> None:
    if _State.depth:
        _State.received = number
    else:
        raise CommandInterrupted(number)


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()
