"""Segment's Python SDK sends events to the service: `make test-sdks`."""

import subprocess

import httpx
import pytest

from tests.api.questions import ask
from tests.sdks.programs import PYTHON
from tests.servers import KEY

PROGRAM = """
import sys
import segment.analytics as analytics

analytics.host, analytics.write_key, coding = sys.argv[1:]
analytics.gzip = coding == "gzip"
errors = []
analytics.on_error = lambda error, items: errors.append(error)
for n in range(10_000):
    analytics.track(user_id=f"u{n % 50}", event="Signed Up", properties={"n": n})
analytics.shutdown()
sys.exit(str(errors) if errors else 0)
"""


ONE_IN_TEN = """
import sys
import segment.analytics as analytics

analytics.host, analytics.write_key = sys.argv[1:]
errors = []
analytics.on_error = lambda error, items: errors.append(error)
for n in range(1000):
    name = "x" * 201 if n % 10 == 0 else "Signed Up"
    analytics.track(user_id=f"u{n % 50}", event=name)
analytics.shutdown()
sys.exit(str(errors) if errors else 0)
"""
ALL_BAD = ONE_IN_TEN.replace("n % 10 == 0", "True")


def test_a_call_that_is_too_long_costs_no_other_call(service: httpx.Client) -> None:
    command = [str(PYTHON), "-c", ONE_IN_TEN, str(service.base_url), KEY]
    subprocess.run(command, check=True, timeout=300)
    assert ask(service, "event-counts", last="24h")["data"] == {"events": 900, "users": 45}


def test_the_sdk_is_told_if_no_call_is_valid(service: httpx.Client) -> None:
    command = [str(PYTHON), "-c", ALL_BAD, str(service.base_url), KEY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "422" in done.stderr


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_10_000_events_are_all_stored_once(service: httpx.Client, coding: str) -> None:
    command = [str(PYTHON), "-c", PROGRAM, str(service.base_url), KEY, coding]
    subprocess.run(command, check=True, timeout=300)
    assert ask(service, "event-counts", last="24h")["data"] == {"events": 10_000, "users": 50}
