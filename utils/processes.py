"""How processes hang together."""

import ctypes
import os
import signal
import sys
from dataclasses import dataclass, field

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class DieWithParent:
    """For a child to call: it gets this signal when its parent ends, even by `kill -9`.

    Made by the parent; called after the child has changed its user, if it does.
    """

    number: signal.Signals
    parent: int = field(default_factory=os.getpid)

    def __call__(self) -> None:
        if sys.platform != "linux":
            return
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(self.number))
        if os.getppid() != self.parent:  # it died in between
            os.kill(os.getpid(), signal.SIGKILL)
