"""Signals that end a command, but never between a commit and the count of what it stored."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class CommandInterrupted(SystemExit):
    """A signal ended the command; the exit code is the one that shells give for it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def handle_sigterm_as_init() -> None:
    """End on SIGTERM also as process 1 of a container, for which the kernel ignores a signal that
    has no handler."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


class _State:
    depth = 0
    """Of the blocks of `uninterrupted` that the main thread is in."""
    received: int | None = None


@contextmanager
def stoppable() -> Iterator[None]:
    """In this block SIGHUP, SIGINT and SIGTERM raise Stopped, in the main thread.

    A signal that is ignored stays so, as `nohup` wants it.
    """
    if not _is_main():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _receive)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A signal that arrives in this block raises at its end. Raises: Stopped."""
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
