"""Measure the rate of cached answers and the cost of each layer of a request.

All figures come from one run on one machine: ratios are comparable, absolute times depend on the
machine. Needs `wrk`, from the Debian package of this name.
"""

import asyncio
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import redis

from bench.layers import layers
from bench.serving import ROOT, free_port, is_up, serving
from services.embedded import Endpoints, embedded_servers
from tests.events import insert_git_history
from tests.live_server import AUTHORIZED, METRICS_TOKEN
from tests.servers import Cluster
from tests.wait_until import wait_until

PATH = "/analytics/event-counts?start=2025-01-01&end=2026-01-01"
SECONDS = 6
ROUNDS = 3
CONNECTIONS = 16
PACED_CONNECTIONS = 128  # connections that pause between requests
PACED_SCRIPT = "bench/steady.lua"
SCRAPER = {"Authorization": f"Bearer {METRICS_TOKEN}"}


def main() -> None:
    fast_path()


def fast_path() -> dict[str, float]:
    """Print what a hit costs.

    Returns the requests/s of two workers: cached answers, and the bare handler.
    """
    folder = Path(tempfile.mkdtemp(prefix="analytics-bench-"))
    folder.chmod(0o711)
    with embedded_servers(folder) as endpoints:
        url = Cluster(endpoints.database_url).migrated_database()
        insert_git_history(url)
        say(
            f"{os.cpu_count()} cores, Python {platform.python_version()}, {CONNECTIONS} connections"
        )
        throughput(endpoints, url, folder, 1)
        service_rate, bare_rate = throughput(endpoints, url, folder, 2)
        say()
        asyncio.run(layers(url, endpoints.redis_url, say))
    shutil.rmtree(folder, ignore_errors=True)
    return {"cached_per_s": service_rate, "starlette_redis_per_s": bare_rate}


def say(line: str = "") -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def throughput(endpoints: Endpoints, url: str, folder: Path, workers: int) -> tuple[float, float]:
    """The rates of cached answers and of the bare handler, measured in turn on the same cores."""
    with (
        bare_server(endpoints, workers) as bare_port,
        serving(url, endpoints.redis_url, folder / "service.log", workers) as port,
    ):
        base_url = f"http://127.0.0.1:{port}"
        body = httpx.get(base_url + PATH, headers=AUTHORIZED, timeout=30).content
        with redis.Redis.from_url(endpoints.redis_url) as client:
            client.set("bare", body)
        rates: dict[str, list[float]] = {"bare": [], "ours": []}
        for _ in range(ROUNDS):
            rates["bare"].append(rate(f"http://127.0.0.1:{bare_port}/"))
            rates["ours"].append(rate(base_url + PATH))
        bare_rate, service_rate = (statistics.median(rates[name]) for name in ("bare", "ours"))
        say(
            f"| cached, {workers} worker(s) | {service_rate:,.0f} requests/s | "
            f"bare Starlette and one GET: {bare_rate:,.0f} | {service_rate / bare_rate:.0%} |"
        )
        latency(base_url, service_rate * 0.7, workers)
        return service_rate, bare_rate


def rate(url: str) -> float:
    """Requests per second, all of which must be answered with 200."""
    return rate_of(wrk(url, CONNECTIONS))


def rate_of(output: str) -> float:
    return _figures(output, r"Requests/sec:\s+([\d.]+)")[0]


def wrk(url: str, connections: int, *more: str, **environment: str) -> str:
    key = f"Authorization: {AUTHORIZED['Authorization']}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "-H", key, *more, url]
    output = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **environment}
    ).stdout
    assert "Non-2xx" not in output, output
    return output


def latency(base_url: str, target_rate: float, workers: int) -> None:
    """Print percentiles of the latency below capacity, and the memory of a worker afterwards."""
    # An answer itself takes about 2 ms.
    pause_ms = int(PACED_CONNECTIONS / target_rate * 1000 - 2)
    output = wrk(
        base_url + PATH,
        PACED_CONNECTIONS,
        "-s",
        str(ROOT / PACED_SCRIPT),
        PAUSE_MS=str(max(pause_ms, 1)),
    )
    actual_rate = rate_of(output)
    times = _figures(output, r"percentiles (\S+) (\S+) (\S+)")
    percentiles = ", ".join(
        f"p{percent} {taken / 1000:.1f} ms"
        for percent, taken in zip((50, 99, 99.9), times, strict=True)
    )
    memory_mb = memory(base_url) / 2**20
    say(
        f"| {workers} worker(s) at {actual_rate:,.0f} requests/s "
        f"| {percentiles} | {memory_mb:.0f} MB each |"
    )


def memory(base_url: str) -> float:
    """The resident memory of the largest worker, in bytes."""
    page = httpx.get(f"{base_url}/metrics", headers=SCRAPER, timeout=10).text
    return max(map(float, re.findall(r"^process_resident_memory_bytes\S* (\S+)$", page, re.M)))


def _figures(text: str, pattern: str) -> list[float]:
    match = re.search(pattern, text)
    assert match, text
    return [float(figure) for figure in match.groups()]


@contextmanager
def bare_server(endpoints: Endpoints, workers: int) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "bench.bare_handler:app", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--workers", str(workers), "--no-access-log", "--log-level", "error"],
        env={**os.environ, "REDIS_URL": endpoints.redis_url},
        cwd=ROOT,
    )
    try:
        wait_until(lambda: is_up(f"http://127.0.0.1:{port}/"), timeout_s=20)
        time.sleep(1)  # the first worker answers, the others may still start
        yield port
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
