"""The directory that workers of one service share: what is shown of it, and when it is removed."""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from config import worker_slots
from config.worker_slots import column_directory, slot_directory

ROOT = Path(__file__).parents[2]
IMPORTS = "import commands.serve, commands.rollup, common.metric_collector, common.metrics, main"


@pytest.fixture(autouse=True)
def parent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where such folders are made; others of this machine are left alone."""
    monkeypatch.setattr(worker_slots, "_MEMORY", tmp_path)
    return tmp_path


@pytest.fixture
def abandoned(parent: Path) -> Path:
    """What a service that was killed leaves."""
    folder = Path(tempfile.mkdtemp(prefix="analytics-workers-", dir=parent))
    for name in ("service.lock", "place.0", "counter_0.db"):
        (folder / name).touch()
    return folder


def test_importing_metrics_does_not_touch_a_foreign_multiproc_directory(tmp_path: Path) -> None:
    """Whatever folder another program uses."""
    for name in ("gauge_livesum_0.db", "counter_0.db", "place.0"):
        (tmp_path / name).write_bytes(b"of another program")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    code = f"{IMPORTS}; common.metrics.IN_FLIGHT.inc(); common.metrics.REFUSED.labels('x').inc()"
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        cwd=ROOT,
        check=True,
    )
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


COUNTING = """
import json
import sys
from pathlib import Path
from common.metric_collector import collect_registry
from common.metric_values import share_metrics
from common.metrics import INGESTED, IN_FLIGHT
INGESTED.labels("accepted").inc({before})
share_metrics(Path(sys.argv[1]))
INGESTED.labels("accepted").inc({after})
IN_FLIGHT.set(5)
samples = {{sample.name: sample for metric in collect_registry().collect()
           for sample in metric.samples
           if sample.labels.get("result", "accepted") == "accepted"}}
print(json.dumps({{"events": samples["analytics_ingested_events_total"].value,
                  "in flight": samples["http_requests_in_flight"].value}}))
"""


def counted(folder: Path, before: int, after: int) -> dict[str, float]:
    """What a worker shows that counts so much before and after it has the folder."""
    code = COUNTING.format(before=before, after=after)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    metrics: dict[str, float] = json.loads(done.stdout)
    return metrics


def test_a_restarted_worker_continues_the_counters_of_its_slot() -> None:
    """What was counted before it had the folder is not lost, and gauges begin anew."""
    with slot_directory() as folder:
        assert counted(folder, 2, 3) == {"events": 5.0, "in flight": 5.0}
        assert counted(folder, 10, 1) == {"events": 16.0, "in flight": 5.0}


def test_the_slot_directory_is_removed_at_shutdown(parent: Path) -> None:
    with slot_directory() as folder:
        assert folder.parent == parent
    assert list(parent.iterdir()) == []


def test_the_next_service_removes_the_directory_of_a_killed_one(
    parent: Path, abandoned: Path
) -> None:
    with slot_directory() as folder:
        assert list(parent.iterdir()) == [folder]


@pytest.mark.parametrize("held", ["service.lock", "place.0"])
def test_a_directory_locked_by_a_running_process_is_not_removed(abandoned: Path, held: str) -> None:
    descriptor = os.open(abandoned / held, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with slot_directory():
        pass
    assert sorted(file.name for file in abandoned.iterdir()) == [
        "counter_0.db",
        "place.0",
        "service.lock",
    ]
    os.close(descriptor)


def test_a_directory_without_our_lock_file_is_not_removed(parent: Path, abandoned: Path) -> None:
    """Of another version, or of anybody: without the lock nobody knows whether it is in use."""
    (abandoned / "service.lock").unlink()
    (parent / "analytics-workers-elsewhere").symlink_to(Path(__file__).parent)
    (parent / "analytics-workers-file").touch()
    with slot_directory():
        pass
    assert {file.name for file in parent.iterdir()} == {
        abandoned.name,
        "analytics-workers-elsewhere",
        "analytics-workers-file",
    }
    assert abandoned.joinpath("counter_0.db").exists()


def test_two_services_use_separate_slot_directories(parent: Path) -> None:
    with slot_directory() as first, slot_directory() as second:
        assert first.is_dir()
        assert second.is_dir()
    assert list(parent.iterdir()) == []


def test_columns_have_a_directory_that_only_this_user_can_read(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(parent))
    killed = Path(tempfile.mkdtemp(prefix="analytics-columns-", dir=parent))
    (killed / "service.lock").touch()
    with column_directory() as folder:
        assert folder
        assert list(parent.iterdir()) == [folder]
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "a-1-0-1.arrow").touch()
    assert list(parent.iterdir()) == []


def test_a_service_works_without_a_directory_for_columns(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(parent / "gone"))
    with column_directory() as folder:
        assert folder is None
