"""Where what is counted is kept: in memory, and in files of a shared folder once there is one."""

from pathlib import Path
from threading import Lock
from typing import Any

from prometheus_client.mmap_dict import MmapedDict, mmap_key

from config.worker_slots import acquire_slot

LIVE_GAUGES = "gauge_live*_{}.db"
"""Files of what is so as long as a worker lives, by its slot, as prometheus_client names them."""


class Value:
    """A number of a metric, as prometheus_client's values are."""

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
        self._stem = f"{kind}_{multiprocess_mode}" if kind == "gauge" else kind
        self._key = mmap_key(metric, name, list(label_names), list(labels), text)
        self._number = 0.0
        self._file: Any = None
        with _lock:
            _values.append(self)
            if _files:
                self.open(_files)

    def open(self, files: "_Files") -> None:
        """Go on from what the worker before has counted in this slot."""
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
    """Those of one slot of a folder, opened when they are needed."""

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
    """From now on this process counts in files of this folder, which other workers share.

    Called once, at the start of a worker; its slot is kept until the process ends.
    """
    global _files
    slot = acquire_slot(folder)
    for file in folder.glob(LIVE_GAUGES.format(slot)):
        file.unlink(missing_ok=True)  # of the worker that had the slot before; counters go on
    with _lock:
        _files = _Files(folder, slot)
        for value in _values:
            value.open(_files)


def shared_folder() -> Path | None:
    """The folder of the workers' metrics; None where this process counts for itself."""
    return _files.folder if _files else None
