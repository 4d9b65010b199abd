"""Errors of PostgreSQL and of the pool. Commands print the docstring of an error without a text."""


class DatabaseError(Exception):
    """PostgreSQL did not respond."""


class PoolBusy(DatabaseError):
    """No connection, or no memory for what was read, became free in time."""


class DeadlineExceeded(DatabaseError):
    """The request was not completed before its deadline."""


class DiskFull(DatabaseError):
    """The disk has no space left for the data to write."""


class DatabaseUnavailable(DatabaseError):
    """PostgreSQL cannot be reached, or closed the connection."""


class OtherSearchPath(DatabaseError):
    """The sessions of a pooler would find tables of others."""


class RightsMissing(DatabaseUnavailable):
    """The database role lacks a privilege that this needs."""


class ConnectionLost(DatabaseUnavailable):
    """The connection was lost during a statement. Reads may be repeated on another connection."""


class SerializationFailure(DatabaseUnavailable):
    """PostgreSQL rolled the transaction back because of a conflict with another one, or with the
    recovery of a replica. It may be repeated."""
