"""Check the URL of a Redis server: options that are not supported are refused, never ignored."""

from collections.abc import Iterator
from urllib.parse import SplitResult, parse_qsl, urlsplit

_TLS = {"ssl_ca_certs", "ssl_cert_reqs"}
_OPTIONS = {"db", *_TLS}
_CHECKS = ("none", "required")


def redis_url_fault(url: str) -> str | None:
    """Return what is wrong with a URL, without any of its values; None if it is valid."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "must be a URL with a host and a numeric port, such as redis://localhost:6379"
    return next(_faults(parts), None)


def _faults(parts: SplitResult) -> Iterator[str]:
    if parts.scheme not in ("redis", "rediss", "unix"):
        yield "must start with redis://, rediss:// or unix://"
    if parts.fragment:
        yield "must not contain #: write it as %23 in a password"
    if parts.username and not parts.password:
        yield "must have a password if it has a user name"
    yield from _location_faults(parts)
    yield from _option_faults(parts)


def _location_faults(parts: SplitResult) -> Iterator[str]:
    if parts.scheme == "unix":
        if parts.hostname or len(parts.path) < 2:
            yield "must be unix:///path, with the path of a socket and no host"
    elif not _is_number(parts.path.removeprefix("/") or "0"):
        yield "must have the number of a database as its path, or no path"


def _option_faults(parts: SplitResult) -> Iterator[str]:
    options = parse_qsl(parts.query, keep_blank_values=True)
    names = [name for name, _ in options]
    for name, value in options:
        if name not in _OPTIONS:
            allowed = ", ".join(sorted(_OPTIONS))
            yield f"has an unknown option ({_printable(name)}); allowed: {allowed}"
        if name in _TLS and parts.scheme != "rediss":
            yield f"has the option {name}, which needs rediss://"
        if names.count(name) > 1:
            yield f"has the option {name} twice"
        if name == "db" and not _is_number(value):
            yield "must have a number as the option db"
        if name == "ssl_cert_reqs" and value not in _CHECKS:
            yield f"must have {' or '.join(_CHECKS)} as the option ssl_cert_reqs"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _printable(name: str) -> str:
    """Return the name of an option if it looks like one."""
    # Other text may be a part of a password that is not percent-encoded.
    return name if name.isidentifier() and len(name) <= 40 else "its name is not an identifier"
