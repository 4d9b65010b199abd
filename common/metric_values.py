"""Storage of metric values: in memory, and in files of a directory that all workers share."""

from pathlib import Path
from threading import Lock
from typing import Any

from prometheus_client.mmap_dict import MmapedDict, mmap_key

from config.worker_slots import acquire_slot

# The files of live gauges of a worker slot, as prometheus_client names them.
LIVE_GAUGES = "gauge_live*_{}.db"


class Value:
    """A value of a metric, with the interface of prometheus_client's value classes."""

    _multiprocess = False

    def __init__(
        self,
        kind: str,
        metric: str,
        name: str,
        label_names: tuple[str, ...],
        labels: tuple[str, ...],
        text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        # File names and keys are those of prometheus_client, whose `merge` reads the files.
        self._stem = f"{kind}_{multiprocess_mode}" if kind == "gauge" else kind
        self._key = mmap_key(metric, name, list(label_names), list(labels), text)
        self._number = 0.0
        self._file: Any = None
        # Metrics are created at import, before the worker has files: `share_metrics` opens the
        # files of all values that exist by then.
        with _lock:
            _values.append(self)
            if _files:
                self.open(_files)

    def open(self, files: "_Files") -> None:
        """Write to a file from now on, adding to the value that it holds."""
        # A worker continues the counts of the previous one in its slot: counters never fall.
        self._file = files.of(self._stem)
        stored, _ = self._file.read_value(self._key)
        self._write(stored + self._number)

    def inc(self, amount: float) -> None:
        with _lock:
            self._write(self._number + amount)

    def set(self, value: float, timestamp: float | None = None) -> None:
        with _lock:
            self._write(value)

    def get(self) -> float:
        return self._number

    def get_exemplar(self) -> None:
        return None

    def _write(self, value: float) -> None:
        self._number = value
        if self._file is not None:
            self._file.write_value(self._key, value, 0.0)


class _Files:
    """The metric files of one worker slot, opened on first use."""

    def __init__(self, folder: Path, slot: int) -> None:
        self.folder = folder
        self._slot = slot
        self._open: dict[str, Any] = {}

    def of(self, stem: str) -> Any:
        if stem not in self._open:
            file = self.folder / f"{stem}_{self._slot}.db"
            self._open[stem] = MmapedDict(str(file))  # type: ignore[no-untyped-call]
        return self._open[stem]


_lock = Lock()
_values: list[Value] = []
_files: _Files | None = None


def share_metrics(folder: Path) -> None:
    """Store the metrics of this process in files of a directory that all workers share.

    Call it once, at the start of a worker: it acquires a worker slot until the process ends.
    """
    global _files
    slot = acquire_slot(folder)
    for file in folder.glob(LIVE_GAUGES.format(slot)):
        file.unlink(missing_ok=True)  # of the slot's previous worker; counters continue
    with _lock:
        _files = _Files(folder, slot)
        for value in _values:
            value.open(_files)


def shared_folder() -> Path | None:
    """Return the directory of the workers' metrics; None if this process has no files."""
    return _files.folder if _files else None
