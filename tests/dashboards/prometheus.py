"""Runs Debian's Prometheus for tests, on a free port with a temporary directory."""

import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from tests.live_server import METRICS_TOKEN
from tests.replica import free_port
from tests.wait_until import wait_until
from utils.processes import DieWithParent

RULES = Path(__file__).parents[2] / "prometheus" / "rules"


@contextmanager
def prometheus(ports: Sequence[int], interval: str = "1s") -> Iterator[str]:
    """The URL of a Prometheus that scrapes the service on these ports."""
    folder = Path(tempfile.mkdtemp(prefix="analytics-prometheus-"))
    port = free_port()
    file = folder / "prometheus.yml"
    rules = folder / "rules.yml"
    rules.write_text(_rules(interval))
    file.write_text(json.dumps(_configuration(ports, rules, interval)))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
            preexec_fn=DieWithParent(signal.SIGTERM),
        )
    base = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _scrapes(base, len(ports)), timeout_s=20)
        yield base
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _rules(interval: str) -> str:
    """All rules of the project, evaluated at this interval."""
    texts = [file.read_text() for file in sorted(RULES.glob("*.yml"))]
    groups = [group for text in texts for group in yaml.safe_load(text)["groups"]]
    return json.dumps({"groups": [{**group, "interval": interval} for group in groups]})


def _configuration(ports: Sequence[int], rules: Path, interval: str) -> dict[str, object]:
    """The configuration of Prometheus; it is written as JSON, which is valid YAML."""
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {
                "job_name": "analytics",
                "authorization": {"credentials": METRICS_TOKEN},
                "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}],
            }
        ],
    }


def _scrapes(base: str, targets: int) -> bool:
    try:
        response = httpx.get(f"{base}/api/v1/query", params={"query": "sum(up)"})
    except httpx.TransportError:
        return False
    result = response.json()["data"]["result"] if response.is_success else []
    return bool(result) and result[0]["value"][1] == str(targets)
