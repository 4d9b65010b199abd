"""Selections: the events of a step, a cohort or another part of a question, as text.

selection = names [where]
names     = "*" / name *("," name)
condition = selection *option                     (on users, as in `did`)
option    = "@times:" count / "@last:" length / "@start:" time / "@end:" time
count     = number / number ".." / ".." number / number ".." number
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from common.dates import date_or_instant
from common.filters import (
    BARE_VALUE,
    AnyOf,
    Condition,
    Filter,
    Name,
    conjunction,
    quote,
)
from common.where import FilterError, FilterParser, TermCounter, check_length
from utils.time.ranges import parse_last

MAX_CONDITIONS = 10
"""The number of conditions on users that a parameter may have."""

_MAX_NAME_BYTES = 200
_BARE_EVENT = re.compile(r'[^ ,()"*]+')
_OPTION = re.compile(r"@(times|last|start|end):")
_QUOTE_HINT = (
    "quote an event name that begins with - or @, or has a space, comma, quote, parenthesis or *"
)
_TIMES = re.compile(r"([0-9]{1,9})|([0-9]{1,9})?\.\.([0-9]{1,9})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Selection:
    """The events of some names that match a filter."""

    names: tuple[str, ...] = ()
    """Event names, sorted; empty for all events."""
    where: Filter | None = None

    @property
    def filter(self) -> Filter | None:
        """The canonical filter that matches these events; None for all events."""
        named = [Condition(Name(field="event"), AnyOf("", self.names))] if self.names else []
        parts = [*named, *([self.where] if self.where else [])]
        return conjunction(parts) if parts else None

    def __str__(self) -> str:
        names = ",".join(map(_name_text, self.names)) or "*"
        return f"{names} {self.where}" if self.where else names


class Times(NamedTuple):
    """Bounds of a number of events: at least, and at most if there is an upper bound."""

    low: int = 1
    high: int | None = None

    def __str__(self) -> str:
        if self.low == self.high:
            return str(self.low)
        if self.low == 0 and self.high is not None:
            return f"..{self.high}"
        return f"{self.low}..{'' if self.high is None else self.high}"


_AT_LEAST_ONCE = Times()


@dataclass(frozen=True, slots=True)
class UserCondition:
    """A condition on users: the events of a selection that they caused in a range of time."""

    selection: Selection
    times: Times = _AT_LEAST_ONCE
    last: str | None = None
    """A length such as `30d`, back from the end of the question's range."""
    start: date | datetime | None = None
    end: date | datetime | None = None

    def __str__(self) -> str:
        options = {
            "times": None if self.times == _AT_LEAST_ONCE else self.times,
            "last": self.last,
            "start": self.start and _time_text(self.start),
            "end": self.end and _time_text(self.end),
        }
        texts = [f"@{name}:{value}" for name, value in options.items() if value is not None]
        return " ".join([str(self.selection), *texts])


def parse_selection(text: str) -> Selection:
    """Return the selection that a text means. Raises: FilterError."""
    (selection,) = parse_selections([text])
    return selection


def parse_selections(texts: Sequence[str]) -> tuple[Selection, ...]:
    """Return the selections of a parameter, in the order of its texts. Raises: FilterError."""
    check_length(texts)
    counter = TermCounter()
    return tuple(_SelectionParser(text, counter).parse_selection() for text in texts)


def parse_user_conditions(texts: Sequence[str]) -> tuple[UserCondition, ...]:
    """Return the conditions of a parameter, sorted and without duplicates. Raises: FilterError."""
    check_length(texts)
    if len(texts) > MAX_CONDITIONS:
        raise FilterError(1, f"may be given at most {MAX_CONDITIONS} times")
    counter = TermCounter()
    parsed = {_UserConditionParser(text, counter).parse_condition() for text in texts}
    return tuple(sorted(parsed, key=str))


class _SelectionParser(FilterParser):
    """Parses event names, and then a condition as `where` has it."""

    syntax_hint = "a condition is written name:value; quote an event name that has a space"

    def parse_selection(self) -> Selection:
        selection = self._selection()
        if self._peek():
            raise self._error("unmatched parenthesis")
        return selection

    def _selection(self) -> Selection:
        self._skip_spaces()
        names = self._names()
        self._skip_spaces()
        return Selection(names, None if self._is_at_end() else self._or())

    def _names(self) -> tuple[str, ...]:
        if self._peek() == "*":
            self._at += 1
            names = set[str]()
        else:
            names = {self._event_name()}
            while self._peek() == ",":
                self._at += 1
                names.add(self._event_name(" after the comma"))
        if self._peek() not in ("", " "):
            raise self._error(self._end_hint(names))
        return tuple(sorted(names))

    def _end_hint(self, names: set[str]) -> str:
        """Return what is wrong with the character that follows event names."""
        if not names:
            return "* means any event and stands alone"
        if self._peek() in (":", "."):
            return "a space is missing after the quote"
        return _QUOTE_HINT

    def _event_name(self, place: str = "") -> str:
        position = self._at + 1
        if self._peek() in ("", " ", ","):
            raise self._error(f"an event name is missing{place}")
        if self._peek() in ("-", "@", "*", "(", ")"):
            raise self._error(_QUOTE_HINT)
        name = self._part(_BARE_EVENT).text
        self._counter.add_value(position)
        if "\0" in name:
            raise self._error("an event name must not contain a NUL character", position)
        if not 1 <= len(name.encode()) <= _MAX_NAME_BYTES:
            raise self._error(f"an event name has 1 to {_MAX_NAME_BYTES} bytes", position)
        return name


class _UserConditionParser(_SelectionParser):
    """Parses a selection, and then options."""

    field_hint = (
        "the fields of an event are @event and @user; the options @times, @last, @start and @end "
        "come last; quote the name of a property"
    )

    def parse_condition(self) -> UserCondition:
        selection = self._selection()
        options = dict[str, Any]()
        while match := _OPTION.match(self._text, self._at):
            self._add_option(options, match)
        if self._peek():
            is_closing = self._peek() == ")"
            raise self._error("unmatched parenthesis" if is_closing else "options come last")
        return UserCondition(selection, **options)

    def _is_at_end(self) -> bool:
        has_option = not self._opened and _OPTION.match(self._text, self._at)
        return bool(has_option) or super()._is_at_end()

    def _add_option(self, options: dict[str, Any], match: re.Match[str]) -> None:
        name = match[1]
        if name in options:
            raise self._error(f"@{name} may occur once")
        if "last" in {name, *options} and {name, *options} & {"start", "end"}:
            raise self._error("@last is not combined with @start or @end")
        self._at = match.end()
        options[name] = self._option_value(name)
        self._skip_spaces()

    def _option_value(self, name: str) -> Any:
        position = self._at + 1
        match = BARE_VALUE.match(self._text, self._at)
        try:
            value = _OPTION_VALUES[name](match[0] if match else "")
        except ValueError as error:
            raise self._error(f"@{name} {error}", position) from None
        self._at = match.end() if match else self._at
        self._expect_end("an option")
        return value


def _times(text: str) -> Times:
    """Return how often. Raises: ValueError."""
    match = _TIMES.fullmatch(text)
    if not match or text == "..":
        raise ValueError("must be a number of events, as in 3, 3.. (at least) or ..3 (at most)")
    exact, low, high = (int(group) if group else None for group in match.groups())
    if exact is not None:
        return Times(exact, exact)
    if high is not None and (low or 0) > high:
        raise ValueError("has the lower end first")
    return Times(low or 0, high)


def _last(text: str) -> str:
    parse_last(text)
    return text


_OPTION_VALUES: dict[str, Callable[[str], Any]] = {
    "times": _times,
    "last": _last,
    "start": date_or_instant,
    "end": date_or_instant,
}


def _name_text(name: str) -> str:
    return name if _BARE_EVENT.fullmatch(name) and name[0] not in "-@" else quote(name)


def _time_text(time: date | datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
