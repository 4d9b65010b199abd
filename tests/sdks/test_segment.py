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


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_10_000_events_are_all_stored_once(service: httpx.Client, coding: str) -> None:
    command = [str(PYTHON), "-c", PROGRAM, str(service.base_url), KEY, coding]
    subprocess.run(command, check=True, timeout=300)
    assert ask(service, "event-counts", last="24h")["data"] == {"events": 10_000, "users": 50}
