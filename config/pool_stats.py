"""What a pool and its queue count for themselves."""

from dataclasses import dataclass


@dataclass(slots=True)
class PoolStats:
    """What a database counts; `size`, `waiting` and `in_use` are of now, the others only grow."""

    size: int
    acquired: int = 0
    acquire_seconds: float = 0.0
    busy: int = 0
    deadlines: int = 0
    waiting: int = 0
    in_use: int = 0
    opened: int = 0
    discarded: int = 0
