"""What the address of a Redis may say: what is not understood must not be left out in silence."""

from collections.abc import Iterator
from urllib.parse import SplitResult, parse_qsl, urlsplit

_TLS = {"ssl_ca_certs", "ssl_cert_reqs"}
_OPTIONS = {"db", *_TLS}
_CHECKS = ("none", "required")


def redis_url_fault(url: str) -> str | None:
    """What is wrong with an address of Redis, without any value of it; None if nothing is."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "must be an address: a host, and a port that is a number"
    return next(_faults(parts), None)


def _faults(parts: SplitResult) -> Iterator[str]:
    if parts.scheme not in ("redis", "rediss", "unix"):
        yield "must start with redis://, rediss:// or unix://"
    if parts.fragment:
        yield "must not have a #: in a password it is written %23"
    if parts.username and not parts.password:
        yield "has a user name, and needs a password then"
    yield from _location_faults(parts)
    yield from _option_faults(parts)


def _location_faults(parts: SplitResult) -> Iterator[str]:
    if parts.scheme == "unix":
        if parts.hostname or len(parts.path) < 2:
            yield "must have the path of a socket, as unix:///path"
    elif not _is_number(parts.path.removeprefix("/") or "0"):
        yield "must have the number of a database after the host, or nothing"


def _option_faults(parts: SplitResult) -> Iterator[str]:
    options = parse_qsl(parts.query, keep_blank_values=True)
    names = [name for name, _ in options]
    for name, value in options:
        if name not in _OPTIONS:
            allowed = ", ".join(sorted(_OPTIONS))
            yield f"has an option that is not known ({_printable(name)}): {allowed}"
        if name in _TLS and parts.scheme != "rediss":
            yield f"has the option {name}, which needs rediss://"
        if names.count(name) > 1:
            yield f"has the option {name} twice"
        if name == "db" and not _is_number(value):
            yield "must have a number as its option db"
        if name == "ssl_cert_reqs" and value not in _CHECKS:
            yield f"must have {' or '.join(_CHECKS)} as its option ssl_cert_reqs"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _printable(name: str) -> str:
    """A name of redis-py's kind; whatever else may be a part of a password."""
    return name if name.isidentifier() and len(name) <= 40 else "its name is none of an option"
