"""What is wrong with the URL of a PostgreSQL server, told without its password."""

_UNENCODED = (
    "the user and the password in its URL must be percent-encoded, such as @ as %40 and / as %2F"
)


def url_fault(url: str) -> str | None:
    """What is wrong where libpq takes a part of the password for another part of the URL, and its
    error message would show it; None for other URLs."""
    login, at, _ = url.partition("://")[2].partition("?")[0].rpartition("@")
    return _UNENCODED if at and ("@" in login or "/" in login) else None
