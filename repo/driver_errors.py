"""Errors of the PostgreSQL driver, for modules that must not import it."""

import psycopg2

DriverError = psycopg2.Error


def driver_message(exc: DriverError) -> str:
    """Return PostgreSQL's message without its details, which may hold values."""
    return exc.diag.message_primary or str(exc)
