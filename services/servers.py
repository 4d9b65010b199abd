"""Which PostgreSQL and Redis are used: those that are set, else the embedded ones."""

from collections.abc import Iterator
from contextlib import contextmanager

from config.settings import Settings
from services.embedded import Endpoints, embedded_servers


@contextmanager
def database_server(settings: Settings) -> Iterator[str]:
    """Where PostgreSQL is, for commands that need no Redis. Raises: EmbeddedError."""
    if settings.database_url:
        yield settings.database_url.get_secret_value()
        return
    with embedded_servers(settings.data_dir) as embedded:
        yield embedded.database_url


@contextmanager
def servers(settings: Settings) -> Iterator[Endpoints]:
    """Where the servers are, for as long as they are needed. Raises: EmbeddedError."""
    database, redis = settings.database_url, settings.redis_url
    if database and redis:
        yield Endpoints(database.get_secret_value(), redis.get_secret_value())
        return
    with embedded_servers(settings.data_dir) as embedded:
        yield Endpoints(
            database.get_secret_value() if database else embedded.database_url,
            redis.get_secret_value() if redis else embedded.redis_url,
        )
