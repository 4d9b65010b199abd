"""Check the URL of a PostgreSQL server without showing its password."""

_UNENCODED = (
    "the user and the password in its URL must be percent-encoded, such as @ as %40 and / as %2F"
)


def url_fault(url: str) -> str | None:
    """Return what is wrong with a URL whose password is not percent-encoded; None for others."""
    # libpq reads a part of such a password as the host, and its error messages would show it.
    login, at, _ = url.partition("://")[2].partition("?")[0].rpartition("@")
    return _UNENCODED if at and ("@" in login or "/" in login) else None
