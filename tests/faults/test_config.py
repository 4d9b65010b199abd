"""A service that cannot start says why, and shows no secret."""

import os
import subprocess
import sys
import time

import psycopg2
import pytest

from tests.faults.conftest import Check, DedicatedServers
from tests.faults.service_process import ROOT

SECRET = "s3cret-of-the-test"
BAD = {
    "ANALYTICS_PORT": "99999",
    "ANALYTICS_WORKERS": "none",
    "ANALYTICS_POOL_SIZE": "0",
    "ANALYTICS_REQUEST_TIMEOUT_S": "-1",
    "ANALYTICS_CACHE_TIMEOUT_S": "60",
    "ANALYTICS_LOG_LEVEL": "loud",
    "ANALYTICS_UNKNOWN": "x",
    "DATABASE_URL": f"mysql://u:{SECRET}@db/x",
    "REDIS_URL": f"http://:{SECRET}@cache",
}


def start(**settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "serve"],
        env={**os.environ, "ANALYTICS_PORT": "0", **settings},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.check(43)
def test_bad_settings(own: DedicatedServers, fault_url: str, check: Check) -> None:
    """Each setting missing or bad"""
    good = {"DATABASE_URL": fault_url, "REDIS_URL": own.endpoints.redis_url}
    slowest = 0.0
    for name, value in BAD.items():
        began = time.monotonic()
        done = start(**{**good, name: value})
        slowest = max(slowest, time.monotonic() - began)
        assert done.returncode == 1, name
        assert name in done.stderr
        assert done.stderr.startswith("Error: ")
        assert SECRET not in done.stderr + done.stdout
    check.record(f"{len(BAD)} refused by name within {slowest:.1f} s")
    assert slowest <= 5


REDIS_OPTIONS = {
    "rediss://cache?ssl_certfile=/c.pem": "ssl_certfile",
    "rediss://cache?ssl_check_hostname=false": "ssl_check_hostname",
    "redis://cache?client_name=x": "client_name",
    "redis://cache?protocol=3": "protocol",
    "redis://cache?colour=blue": "colour",
    "redis://cache?ssl_cert_reqs=none": "rediss://",
    "redis://user@cache": "password",
}


@pytest.mark.check(62)
def test_options_of_redis(fault_url: str, check: Check) -> None:
    """Options in REDIS_URL that this client does not have"""
    for url, named in REDIS_OPTIONS.items():
        done = start(DATABASE_URL=fault_url, REDIS_URL=url)
        assert done.returncode == 1, url
        (line,) = done.stderr.splitlines()
        assert line.startswith("Error: REDIS_URL: ")
        assert named in line
    check.record(f"{len(REDIS_OPTIONS)} refused by name, in one line each")


@pytest.mark.check(43)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_without_keys(own: DedicatedServers, fault_url: str, check: Check, host: str) -> None:
    """Each setting missing or bad"""
    conn = psycopg2.connect(fault_url)
    with conn, conn.cursor() as cur:
        cur.execute("delete from api_keys")
    conn.close()
    done = start(DATABASE_URL=fault_url, REDIS_URL=own.endpoints.redis_url, ANALYTICS_HOST=host)
    assert done.returncode == 1
    assert "python main.py keys create NAME --scope read" in done.stderr
    check.record(f"no keys on {host}: refused")
