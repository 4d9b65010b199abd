"""Standard input, output and error, where whoever starts a program has closed or filled them."""

import os
import sys
from contextlib import suppress


def open_closed_streams() -> None:
    """Let nothing else that is opened later be taken for one of the three.

    What is read from a closed one is empty, and what is written to it is an error.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        with suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDONLY)  # it gets the lowest number that is free
        setattr(sys, name, os.fdopen(number, mode, closefd=False))


def flush_output() -> str | None:
    """Write what is left of standard output; why that cannot be done, if so.

    Python would do it in the end, and show a traceback.
    """
    try:
        sys.stdout.flush()
    except OSError as exc:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exc.strerror or type(exc).__name__
    return None
