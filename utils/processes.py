"""Child processes that end with their parent."""

import ctypes
import os
import signal
import sys
from dataclasses import dataclass, field

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class DieWithParent:
    """A function for a child process that has the kernel signal it when its parent ends.

    Create it in the parent. Call it in the child, after a change of user: that resets the setting.
    Only Linux has such a setting; elsewhere the call does nothing.
    """

    number: signal.Signals
    parent: int = field(default_factory=os.getpid)

    def __call__(self) -> None:
        if sys.platform != "linux":
            return
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(self.number))
        if os.getppid() != self.parent:  # the parent ended before the call
            os.kill(os.getpid(), signal.SIGKILL)
