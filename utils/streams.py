"""Standard streams that are closed when the program starts, or that can no longer be written."""

import os
import sys
from contextlib import suppress


def open_closed_streams() -> None:
    """Open each standard stream that is closed: reading gives no data, writing is an error."""
    # Else the next file or socket that is opened gets its descriptor, and output would go there.
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        with suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDONLY)  # gets the lowest free descriptor, which is `number`
        setattr(sys, name, os.fdopen(number, mode, closefd=False))


def flush_output() -> str | None:
    """Flush standard output; return the reason if that fails, else None."""
    # Python flushes at exit as well, and would show a traceback: after a failure the descriptor
    # leads to /dev/null.
    try:
        sys.stdout.flush()
    except OSError as exc:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exc.strerror or type(exc).__name__
    return None
