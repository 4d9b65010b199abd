"""Release dates of PostgreSQL's minor releases, to check whether pg_upgrade can succeed."""

import re
from datetime import date
from typing import NamedTuple

# All supported major versions have a minor release on the same day; sometimes one skips a number.
_DAYS: tuple[tuple[date, dict[int, int]], ...] = (
    (date(2022, 10, 13), {15: 0}),
    (date(2022, 11, 10), {15: 1}),
    (date(2023, 2, 9), {15: 2}),
    (date(2023, 5, 11), {15: 3}),
    (date(2023, 8, 10), {15: 4}),
    (date(2023, 9, 14), {16: 0}),
    (date(2023, 11, 9), {15: 5, 16: 1}),
    (date(2024, 2, 8), {15: 6, 16: 2}),
    (date(2024, 5, 9), {15: 7, 16: 3}),
    (date(2024, 8, 8), {15: 8, 16: 4}),
    (date(2024, 9, 26), {17: 0}),
    (date(2024, 11, 14), {15: 9, 16: 5, 17: 1}),
    (date(2024, 11, 21), {15: 10, 16: 6, 17: 2}),
    (date(2025, 2, 13), {15: 11, 16: 7, 17: 3}),
    (date(2025, 2, 20), {15: 12, 16: 8, 17: 4}),
    (date(2025, 5, 8), {15: 13, 16: 9, 17: 5}),
    (date(2025, 8, 14), {15: 14, 16: 10, 17: 6}),
    (date(2025, 9, 25), {18: 0}),
    (date(2025, 11, 13), {15: 15, 16: 11, 17: 7, 18: 1}),
    (date(2026, 2, 12), {15: 16, 16: 12, 17: 8, 18: 2}),
    (date(2026, 2, 26), {15: 17, 16: 13, 17: 9, 18: 3}),
    (date(2026, 5, 14), {15: 18, 16: 14, 17: 10, 18: 4}),
    (date(2026, 8, 13), {15: 19, 16: 15, 17: 11, 18: 6}),
    (date(2026, 11, 12), {15: 20}),
)
MAJORS = (15, 16, 17, 18)

# Two numbers, and no part of a longer version such as 3.15.2 of another package.
_VERSION = re.compile(r"(?<![\d.])(\d{1,3})\.(\d{1,3})(?![\d.])")


class Release(NamedTuple):
    """A minor release of PostgreSQL, such as 18.1."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def rank(self) -> int:
        """The position of its release day in the list; unlisted later releases follow the list."""
        minors = {
            minors[self.major]: n for n, (_, minors) in enumerate(_DAYS) if self.major in minors
        }
        ranks = (rank for minor, rank in minors.items() if minor >= self.minor)
        last = max(minors)
        return next(ranks, minors[last] + self.minor - last)

    @property
    def described(self) -> str:
        """The release and its day; for an unlisted one, the last day of its major version."""
        days = {minors[self.major]: day for day, minors in _DAYS if self.major in minors}
        day = days.get(self.minor)
        return f"{self} (released {f'on {day}' if day else f'after {max(days.values())}'})"


def find_release(text: str) -> Release | None:
    """Return the first supported release that the output of a program names; None without one."""
    releases = (Release(int(major), int(minor)) for major, minor in _VERSION.findall(text))
    return next((release for release in releases if release.major in MAJORS), None)


def upgrade_fault(old: Release, new: Release) -> str | None:
    """Return why pg_upgrade cannot upgrade from `old` to `new`; None if it can."""
    # A minor release may write into the catalogs what releases of an earlier day do not know, even
    # if their major version is newer.
    if new.major < old.major:
        return f"PostgreSQL {new.major} is an older version than {old.major}."
    if new.rank >= old.rank:
        return None
    advice = f"Install the newest minor release of PostgreSQL {new.major}"
    return (
        f"PostgreSQL {new.described} is older than {old.described}, and pg_upgrade would fail. "
        f"{advice}{_at_least(old, new.major)}."
    )


def _at_least(old: Release, major: int) -> str:
    later = (minors[major] for _, minors in _DAYS[old.rank :] if major in minors)
    minor = next(later, None)
    return f", at least {major}.{minor}" if minor is not None else ""
