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


ADDRESS = "must be a URL with a host and a numeric port, such as redis://localhost:6379"
UNKNOWN = "has an unknown option ({}); allowed: db, ssl_ca_certs, ssl_cert_reqs"


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://cache", "must start with redis://, rediss:// or unix://"),
        ("redis://cache:port", ADDRESS),
        ("redis://cache/x", "must have the number of a database as its path, or no path"),
        ("redis://cache/0/1", "must have the number of a database as its path, or no path"),
        ("redis://user@cache", "must have a password if it has a user name"),
        (f"redis://:{SECRET}#{SECRET}@cache", ADDRESS),
        ("redis://cache#0", "must not contain #: write it as %23 in a password"),
        ("unix://run/valkey.sock", "must be unix:///path, with the path of a socket and no host"),
        ("unix://", "must be unix:///path, with the path of a socket and no host"),
        ("redis://cache?db=x", "must have a number as the option db"),
        ("redis://cache?db=1&db=2", "has the option db twice"),
        ("redis://cache?ssl_ca_certs=x", "has the option ssl_ca_certs, which needs rediss://"),
        ("redis://cache?client_name=x", UNKNOWN.format("client_name")),
        ("redis://cache?protocol", UNKNOWN.format("protocol")),
        (
            "rediss://cache?ssl_cert_reqs=optional",
            "must have none or required as the option ssl_cert_reqs",
        ),
        (
            f"redis://cache?x{SECRET}@y=1",
            UNKNOWN.format("its name is not an identifier"),
        ),
    ],
)  # fmt: skip
def test_anything_else_is_named_and_not_shown(url: str, fault: str) -> None:
    assert redis_url_fault(url) == fault
    assert SECRET not in fault
