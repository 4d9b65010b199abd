"""How far long work has come: a bar on a terminal, and elsewhere a line every 10 seconds."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import NoReturn

from tqdm import tqdm

from commands._report import complain
from utils.places import is_terminal

EVERY_S = 10.0
"""Between two lines."""
DRAW_EVERY_S = 1.0
"""A bar, the first time after this."""


class Progress:
    """Of work that is counted in `unit`, and in other units on the side."""

    def __init__(self, what: str, unit: str, total: int | None) -> None:
        self.what = what
        self.total = total
        self.unit = unit
        self._done: Counter[str] = Counter()
        self._began = time.monotonic()

    def add(self, count: int, unit: str = "") -> None:
        self._done[unit or self.unit] += count

    @property
    def done(self) -> int:
        return self._done[self.unit]

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def aside(self) -> str:
        others = {unit: count for unit, count in self._done.items() if unit != self.unit and count}
        return ", ".join(f"{count:,} {unit}" for unit, count in others.items())

    def __str__(self) -> str:
        """Such as `rebuild: 8,000,000 of 10,000,000 events, 1,210 spans, 34 s`."""
        done, total = self._shown(self.done), f" of {self._shown(self.total)}" if self.total else ""
        counted = f"{done}{total}{'' if self.unit == 'B' else ' ' + self.unit}"
        parts = (counted, self.aside, f"{self.seconds:.0f} s")
        return f"{self.what}: " + ", ".join(filter(None, parts))

    def _shown(self, count: int | None) -> str:
        if self.unit == "B":
            return tqdm.format_sizeof(count or 0, "B", 1000)
        return f"{count:,}"


@contextmanager
def progress(what: str, unit: str = "events", total: int | None = None) -> Iterator[Progress]:
    """Shows what is added until the end of the block, also while nothing is; short work is not
    shown."""
    made, end = Progress(what, unit, total), Event()
    shown: _Bar | _Lines = _Bar(made) if is_terminal(sys.stderr) else _Lines(made)

    def go_on() -> None:
        while not end.wait(shown.every_s):
            shown.show()

    showing = Thread(target=go_on, daemon=True)
    showing.start()
    try:
        yield made
    finally:
        end.set()
        showing.join()
        shown.close()


class _Lines:
    def __init__(self, made: Progress) -> None:
        self._made = made
        self.every_s = EVERY_S

    def show(self) -> None:
        complain(str(self._made))

    def close(self) -> None:
        """The report of the command tells the end."""


class _Bar:
    def __init__(self, made: Progress) -> None:
        self._made = made
        self._bar: tqdm[NoReturn] | None = None
        self.every_s = DRAW_EVERY_S

    def show(self) -> None:
        with suppress(OSError):
            bar, made = self._opened(), self._made
            if made.total:
                bar.total = max(made.total, made.done)
            bar.set_postfix_str(made.aside, refresh=False)
            bar.n = made.done
            bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self.show()
            with suppress(OSError):
                self._bar.close()

    def _opened(self) -> "tqdm[NoReturn]":
        if self._bar is None:
            made = self._made
            unit, scale = ("B", True) if made.unit == "B" else (f" {made.unit}", False)
            self._bar = tqdm(total=made.total, desc=made.what, unit=unit, unit_scale=scale)
            self._bar.start_t -= made.seconds
        return self._bar
