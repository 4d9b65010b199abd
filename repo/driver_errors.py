"""Errors of the driver that nobody has given a name of ours."""

import psycopg2

DriverError = psycopg2.Error


def driver_message(exc: DriverError) -> str:
    """What PostgreSQL says of an error, without its details, which may hold values."""
    return exc.diag.message_primary or str(exc)
