"""Connection URLs of PostgreSQL and Redis: those of the settings, else of the embedded servers."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from urllib.parse import urlsplit

from pydantic import SecretStr

from config.database import connect
from config.invocation import invocation
from config.settings import Settings, variable
from repo.roles import ROLES, Role, enable_logins
from services.embedded import Databases, EmbeddedError, Endpoints, are_running, embedded_servers
from utils.session_options import in_schema


@contextmanager
def database_server(settings: Settings) -> Iterator[str]:
    """The URL of PostgreSQL as the owner, for commands without Redis. Raises: EmbeddedError."""
    if url := settings.database_url:
        yield in_schema(url.get_secret_value(), settings.database_schema)
        return
    with embedded_servers(settings.data_dir) as embedded:
        _create_logins(embedded)
        yield in_schema(embedded.database_url, settings.database_schema)


@contextmanager
def databases(settings: Settings) -> Iterator[Databases]:
    """The URLs of PostgreSQL for each role. Raises: EmbeddedError, DatabaseUnavailable."""
    if settings.database_url:
        yield _configured_databases(settings)
        return
    with embedded_servers(settings.data_dir) as embedded:
        yield _databases(settings, embedded)


@contextmanager
def servers(settings: Settings) -> Iterator[Endpoints]:
    """The URLs of PostgreSQL and Redis. Embedded servers run until the end of the block.

    Raises: EmbeddedError, DatabaseUnavailable.
    """
    redis = settings.redis_url
    if settings.database_url and redis:
        found = _configured_databases(settings)
        yield Endpoints(found.owner, redis.get_secret_value(), found.by_role)
        return
    with embedded_servers(settings.data_dir) as embedded:
        urls = _databases(settings, embedded)
        url = redis.get_secret_value() if redis else embedded.redis_url
        yield Endpoints(urls.owner, url, urls.by_role)


@contextmanager
def running_servers(settings: Settings) -> Iterator[Endpoints]:
    """The URLs of servers that run already: embedded servers are not started. The URL of Redis is
    "" if none is known.

    Raises: EmbeddedError.
    """
    database, redis = settings.database_url, settings.redis_url
    is_embedded = not (database and redis) and are_running(settings.data_dir)
    if not database and not is_embedded:
        raise EmbeddedError(
            f"{variable('database_url')} is not set, and no embedded servers run: set it, or start "
            f"`{invocation('serve')}`"
        )
    with embedded_servers(settings.data_dir) if is_embedded else nullcontext() as joined:
        url = database.get_secret_value() if database else joined.database_url if joined else ""
        other = redis.get_secret_value() if redis else joined.redis_url if joined else ""
        yield Endpoints(in_schema(url, settings.database_schema), other)


def _databases(settings: Settings, embedded: Endpoints) -> Databases:
    if settings.database_url:
        return _configured_databases(settings)
    _create_logins(embedded)
    by_role = embedded.by_role | _by_role(settings)
    return _in_schema(settings, Databases(embedded.database_url, by_role))


def _configured_databases(settings: Settings) -> Databases:
    assert settings.database_url
    owner = settings.database_url.get_secret_value()
    return _in_schema(settings, Databases(owner, _by_role(settings)))


def _in_schema(settings: Settings, databases: Databases) -> Databases:
    """The URLs with the search path of their sessions."""
    schema = settings.database_schema
    by_role = {role: in_schema(url, schema) for role, url in databases.by_role.items()}
    return Databases(in_schema(databases.owner, schema), by_role)


def _by_role(settings: Settings) -> dict[str, str]:
    """The URLs of roles that are set."""
    urls: dict[Role, SecretStr | None] = {
        "reader": settings.query_database_url,
        "writer": settings.ingest_database_url,
        "rollup": settings.rollup_database_url,
    }
    return {role: url.get_secret_value() for role, url in urls.items() if url}


def _create_logins(embedded: Endpoints) -> None:
    """Let each role log in to the embedded PostgreSQL with its own password."""
    urls = {role: embedded.by_role[role] for role in ROLES if role in embedded.by_role}
    passwords = {role: urlsplit(url).password or "" for role, url in urls.items()}
    with closing(connect(embedded.database_url, "analytics-roles")) as conn:
        enable_logins(conn, passwords)
