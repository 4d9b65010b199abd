"""Checkpoints of computations that take longer than an event loop may wait."""

from collections.abc import Callable

Checkpoint = Callable[[], None]
"""Called between the parts of a computation; raises what ends it, such as DeadlineExceeded."""
