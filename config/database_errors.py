"""What becomes of work at PostgreSQL that could not be done."""


class DatabaseError(Exception):
    """PostgreSQL did not answer."""


class PoolBusy(DatabaseError):
    """No connection became free in time."""


class DeadlineExceeded(DatabaseError):
    """The time of the request was over before its answer was there."""


class DiskFull(DatabaseError):
    """There is no room on the disk for what was to be written."""


class DatabaseUnavailable(DatabaseError):
    """PostgreSQL cannot be reached, or went away."""


class RightsMissing(DatabaseUnavailable):
    """The role of questions may not read what they need."""


class ConnectionLost(DatabaseUnavailable):
    """The connection died at work. What only reads may be done once more, on another one."""


class SerializationFailure(DatabaseUnavailable):
    """PostgreSQL undid the transaction for the sake of another one, or a replica could not keep
    what its snapshot saw. It may be done once more."""
