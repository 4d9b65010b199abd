"""Progress of long work: a bar on a terminal, else a line every 10 seconds."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import NoReturn

from tqdm import tqdm

from commands._report import print_error
from utils.paths import is_terminal

EVERY_S = 10.0
"""Seconds between two lines."""
DRAW_EVERY_S = 1.0
"""Seconds between two updates of the bar, and before the first."""


class Progress:
    """Counts of work that is measured in `unit`, and of other units beside it."""

    def __init__(self, what: str, unit: str, total: int | None) -> None:
        self.what = what
        self.total = total
        self.unit = unit
        self._counts: Counter[str] = Counter()
        self._began = time.monotonic()

    def add(self, count: int, unit: str = "") -> None:
        self._counts[unit or self.unit] += count

    @property
    def done(self) -> int:
        return self._counts[self.unit]

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def side_counts(self) -> str:
        others = {
            unit: count for unit, count in self._counts.items() if unit != self.unit and count
        }
        return ", ".join(f"{count:,} {unit}" for unit, count in others.items())

    def __str__(self) -> str:
        """Such as `rebuild: 8,000,000 of 10,000,000 events, 1,210 spans, 34 s`."""
        done, total = (
            self._format_count(self.done),
            f" of {self._format_count(self.total)}" if self.total else "",
        )
        counted = f"{done}{total}{'' if self.unit == 'B' else ' ' + self.unit}"
        parts = (counted, self.side_counts, f"{self.seconds:.0f} s")
        return f"{self.what}: " + ", ".join(filter(None, parts))

    def _format_count(self, count: int | None) -> str:
        if self.unit == "B":
            return tqdm.format_sizeof(count or 0, "B", 1000)
        return f"{count:,}"


@contextmanager
def progress(what: str, unit: str = "events", total: int | None = None) -> Iterator[Progress]:
    """Show counts until the end of the block, also while they stand still; not for short work."""
    tracker, end = Progress(what, unit, total), Event()
    display: _Bar | _Lines = _Bar(tracker) if is_terminal(sys.stderr) else _Lines(tracker)

    def refresh_forever() -> None:
        while not end.wait(display.every_s):
            display.show()

    thread = Thread(target=refresh_forever, daemon=True)
    thread.start()
    try:
        yield tracker
    finally:
        end.set()
        thread.join()
        display.close()


class _Lines:
    def __init__(self, tracker: Progress) -> None:
        self._tracker = tracker
        self.every_s = EVERY_S

    def show(self) -> None:
        print_error(str(self._tracker))

    def close(self) -> None:
        """The report of the command follows, so no last line is needed."""


class _Bar:
    def __init__(self, tracker: Progress) -> None:
        self._tracker = tracker
        self._bar: tqdm[NoReturn] | None = None
        self.every_s = DRAW_EVERY_S

    def show(self) -> None:
        with suppress(OSError):
            bar, tracker = self._get_bar(), self._tracker
            if tracker.total:
                bar.total = max(tracker.total, tracker.done)
            bar.set_postfix_str(tracker.side_counts, refresh=False)
            bar.n = tracker.done
            bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self.show()
            with suppress(OSError):
                self._bar.close()

    def _get_bar(self) -> "tqdm[NoReturn]":
        if self._bar is None:
            tracker = self._tracker
            unit, scale = ("B", True) if tracker.unit == "B" else (f" {tracker.unit}", False)
            self._bar = tqdm(total=tracker.total, desc=tracker.what, unit=unit, unit_scale=scale)
            self._bar.start_t -= tracker.seconds
        return self._bar
