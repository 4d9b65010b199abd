"""What the address of a Redis may say."""

import pytest

from utils.redis_urls import redis_url_fault

SECRET = "s3cret"


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://cache",
        "redis://cache:6380/3",
        "redis://cache/",
        f"redis://:{SECRET}@127.0.0.1:6379/0",
        f"redis://user:{SECRET}@[::1]:6379?db=2",
        f"rediss://:{SECRET}@cache?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required",
        "rediss://cache?ssl_cert_reqs=none",
        "unix:///run/valkey.sock?db=1",
        f"unix://user:{SECRET}@/run/valkey.sock",
    ],
)
def test_what_is_understood_is_allowed(url: str) -> None:
    assert redis_url_fault(url) is None


ADDRESS = "must be an address: a host, and a port that is a number"
UNKNOWN = "has an option that is not known ({}): db, ssl_ca_certs, ssl_cert_reqs"


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://cache", "must start with redis://, rediss:// or unix://"),
        ("redis://cache:port", ADDRESS),
        ("redis://cache/x", "must have the number of a database after the host, or nothing"),
        ("redis://cache/0/1", "must have the number of a database after the host, or nothing"),
        ("redis://user@cache", "has a user name, and needs a password then"),
        (f"redis://:{SECRET}#{SECRET}@cache", ADDRESS),
        ("redis://cache#0", "must not have a #: in a password it is written %23"),
        ("unix://run/valkey.sock", "must have the path of a socket, as unix:///path"),
        ("unix://", "must have the path of a socket, as unix:///path"),
        ("redis://cache?db=x", "must have a number as its option db"),
        ("redis://cache?db=1&db=2", "has the option db twice"),
        ("redis://cache?ssl_ca_certs=x", "has the option ssl_ca_certs, which needs rediss://"),
        ("redis://cache?client_name=x", UNKNOWN.format("client_name")),
        ("redis://cache?protocol", UNKNOWN.format("protocol")),
        (
            "rediss://cache?ssl_cert_reqs=optional",
            "must have none or required as its option ssl_cert_reqs",
        ),
        (
            f"redis://cache?x{SECRET}@y=1",
            UNKNOWN.format("its name is none of an option"),
        ),
    ],
)  # fmt: skip
def test_anything_else_is_named_and_not_shown(url: str, fault: str) -> None:
    assert redis_url_fault(url) == fault
    assert SECRET not in fault
