"""The text form of filters, as in the parameter `where`.

where = and *("or" and)
and   = item *(["and"] item)
item  = ["-"] ("(" where ")" / term) / "not" item
term  = name ":" test
test  = "*" / (">" / ">=" / "<" / "<=") number / number ".." number
      / ["^" / "~"] value *("," value)
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Literal, NamedTuple

from common.filters import (
    BARE_NAME,
    BARE_VALUE,
    BOOLEANS,
    NUMBER,
    WORD,
    AnyOf,
    Between,
    Compare,
    Condition,
    Exists,
    Filter,
    Name,
    Operator,
    Test,
    Value,
    conjunction,
    disjunction,
    negation,
    sort_key,
    typed,
)

MAX_BYTES = 2_000
MAX_TERMS = 50
MAX_LEVELS = 5
MAX_VALUES = 100
# Limits of PostgreSQL's type `numeric`.
_MAX_DIGITS, _MAX_SCALE = 131_072, 16_383

_FIELDS = {"@event": "event", "@user": "user"}
_OPERATORS: dict[str, Operator] = {">": ">", ">=": ">=", "<": "<", "<=": "<="}


class FilterError(ValueError):
    """A text that is no filter; `position` counts characters from 1."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(f"at {position}: {message}")
        self.position = position


def parse_where(texts: Sequence[str]) -> Filter | None:
    """Return the canonical filter that all texts together mean; None without texts.

    Raises: FilterError.
    """
    check_length(texts)
    counter = TermCounter()
    parts = [FilterParser(text, counter).parse() for text in texts]
    return conjunction(parts) if parts else None


def check_length(texts: Sequence[str]) -> None:
    """Check the length of all texts of a parameter together. Raises: FilterError."""
    if sum(len(text.encode()) for text in texts) > MAX_BYTES:
        raise FilterError(1, f"all conditions together must be at most {MAX_BYTES:,} bytes long")


def parse_property(text: str) -> Name:
    """Return the property that a text names as `where` does. Raises: ValueError."""
    with suppress(FilterError):
        where = parse_where([f"{text}:*"])
        if isinstance(where, Condition) and where.test == Exists() and where.name.path:
            return where.name
    raise ValueError(
        "must be the name of a property, such as amount or cart.total; a name with other "
        'characters is quoted, such as "unit price"'
    )


class TermCounter:
    """Counts what is limited, for all texts of a question."""

    def __init__(self) -> None:
        self.terms = self.values = 0

    def add_term(self, position: int) -> None:
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise FilterError(position, f"at most {MAX_TERMS} conditions are allowed")

    def add_value(self, position: int) -> None:
        self.values += 1
        if self.values > MAX_VALUES:
            raise FilterError(position, f"at most {MAX_VALUES} values are allowed")


class Part(NamedTuple):
    """A name or value in the text."""

    text: str
    is_quoted: bool
    position: int


class FilterParser:
    """Parses one text, from left to right."""

    syntax_hint: str = "a condition is written name:value"
    field_hint: str = "the fields of an event are @event and @user; quote the name of a property"

    def __init__(self, text: str, counter: TermCounter) -> None:
        self._text = text
        self._counter = counter
        self._at = 0
        self._opened: list[int] = []
        """The positions of parentheses that are open."""

    def parse(self) -> Filter:
        result = self._or()
        if self._at < len(self._text):
            raise self._error("unmatched parenthesis")
        return result

    def _error(self, message: str, position: int | None = None) -> FilterError:
        return FilterError(self._at + 1 if position is None else position, message)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip_spaces(self) -> None:
        while self._peek() == " ":
            self._at += 1

    def _word(self) -> str:
        """Return the word of the grammar at this place in lower case; empty for none."""
        match = WORD.match(self._text, self._at)
        return match[1].lower() if match else ""

    def _take_word(self, word: str) -> bool:
        self._skip_spaces()
        is_there = self._word() == word
        self._at += len(word) if is_there else 0
        return is_there

    def _or(self) -> Filter:
        parts = [self._and()]
        while self._take_word("or"):
            parts.append(self._and())
        return disjunction(parts)

    def _and(self) -> Filter:
        parts = [self._item()]
        while self._has_next_item():
            parts.append(self._item())
        return conjunction(parts)

    def _has_next_item(self) -> bool:
        if self._take_word("and"):
            return True
        return not self._is_at_end() and self._peek() != ")" and self._word() != "or"

    def _is_at_end(self) -> bool:
        """Return whether the condition ends at this place, which is no space."""
        return self._peek() == ""

    def _item(self) -> Filter:
        self._skip_spaces()
        if self._take_word("not"):
            return negation(self._item())
        if self._peek() != "-":
            return self._group_or_term()
        self._at += 1
        if self._peek() in ("-", " ", ""):
            raise self._error("- may occur once, before a condition or a parenthesis")
        return negation(self._group_or_term())

    def _group_or_term(self) -> Filter:
        if self._peek() == "(":
            return self._group()
        self._counter.add_term(self._at + 1)
        return self._term()

    def _group(self) -> Filter:
        position = self._at + 1
        self._opened.append(position)
        if len(self._opened) > MAX_LEVELS:
            raise self._error(f"at most {MAX_LEVELS} levels of parentheses are allowed")
        self._at += 1
        result = self._or()
        if self._peek() != ")":
            raise self._error("the parenthesis is not closed", position)
        self._at += 1
        self._opened.pop()
        self._expect_end("a parenthesis")
        return result

    def _expect_end(self, what: str) -> None:
        """Check that a term or group does not touch what follows it."""
        if self._peek() not in ("", " ", ")"):
            raise self._error(f"a space is missing after {what}")

    def _term(self) -> Filter:
        position = self._at + 1
        name = self._name()
        if self._peek() != ":":
            raise self._error(self.syntax_hint, position)
        self._at += 1
        test = self._test()
        self._expect_end("a condition")
        return Condition(name, test)

    def _name(self) -> Name:
        position = self._at + 1
        if self._peek() in ("", ")"):
            raise self._error("a condition is missing")
        parts = [self._part(BARE_NAME)]
        while self._peek() == ".":
            self._at += 1
            parts.append(self._part(BARE_NAME))
        if any("\0" in part.text for part in parts):
            raise self._error("a name must not contain a NUL character", position)
        first = parts[0]
        if first.is_quoted or first.text[0] not in "@-":
            return Name(tuple(part.text for part in parts))
        if len(parts) > 1 or first.text not in _FIELDS:
            raise self._error(self.field_hint, position)
        return Name(field="event" if first.text == "@event" else "user")

    def _part(self, bare: re.Pattern[str]) -> Part:
        """Return the name or value at this place, which is quoted or bare and not empty."""
        position = self._at + 1
        if self._peek() == '"':
            return Part(self._quoted(), True, position)
        match = bare.match(self._text, self._at)
        if not match:
            raise self._error(self.syntax_hint)
        self._at = match.end()
        if self._peek() == '"':
            raise self._error("a quote must not touch what is before it")
        return Part(match[0], False, position)

    def _quoted(self) -> str:
        position, characters = self._at + 1, []
        self._at += 1
        while (character := self._peek()) != '"':
            if character == "":
                raise self._error("the quote is not closed", position)
            if character == "\\":
                self._at += 1
                character = self._peek()
                if character not in ('"', "\\"):
                    raise self._error('in quotes, only \\" and \\\\ are escapes')
            characters.append(character)
            self._at += 1
        self._at += 1
        if self._peek() not in ("", " ", ".", ":", ",", ")"):
            raise self._error("a space is missing after the quote")
        return "".join(characters)

    def _test(self) -> Test:
        if self._peek() == "*" and self._text[self._at + 1 : self._at + 2] in ("", " ", ")"):
            self._at += 1
            return Exists()
        if self._peek() in (">", "<"):
            return self._comparison()
        if self._peek() in ("=", "!"):
            raise self._error("a value follows the colon directly: name:value, -name:value")
        kind: Literal["", "^", "~"] = ""
        if self._peek() in ("^", "~"):
            kind = "^" if self._peek() == "^" else "~"
            self._at += 1
        return self._values(kind)

    def _comparison(self) -> Compare:
        character = self._peek()
        self._at += 1
        operator = character
        if self._peek() == "=":
            operator += "="
            self._at += 1
        position = self._at + 1
        match = BARE_VALUE.match(self._text, self._at)
        self._at = match.end() if match else self._at
        number = _number(match[0], position) if match else None
        if number is None:
            raise self._error(f"{operator} needs a number, as in amount:{operator}10", position)
        self._counter.add_value(position)
        return Compare(_OPERATORS[operator], number)

    def _values(self, kind: Literal["", "^", "~"]) -> Test:
        values: dict[tuple[str, Value], Value] = {}
        while True:
            part = self._value(kind, is_first=not values)
            if not kind and not part.is_quoted and ".." in part.text:
                if values or self._peek() == ",":
                    raise self._error("a range stands alone", part.position)
                return self._range(part)
            for value in _meanings(part, kind):
                values[typed(value)] = value
            if self._peek() != ",":
                return AnyOf(kind, tuple(values[key] for key in sorted(values, key=sort_key)))
            self._at += 1

    def _value(self, kind: str, *, is_first: bool) -> Part:
        position = self._at + 1
        if self._peek() in ("", " ", ",", ")"):
            if is_first and not kind:
                raise self._error("a value is missing; name:* tests for any value")
            raise self._error("a value is missing" + ("" if is_first else " after the comma"))
        if not is_first and self._peek() in ("^", "~"):
            raise self._error(f"{self._peek()} may occur once, before the first value")
        part = self._part(BARE_VALUE)
        self._counter.add_value(position)
        _check_value(part, kind)
        return part

    def _range(self, part: Part) -> Between:
        self._counter.add_value(part.position)
        low_text, _, high_text = part.text.partition("..")
        low, high = _number(low_text, part.position), _number(high_text, part.position)
        if low is not None and high is not None:
            if low > high:
                raise self._error("the lower end comes first", part.position)
            return Between(low, high)
        raise self._error(_range_hint(low_text, high_text, low, high), part.position)


def _range_hint(low_text: str, high_text: str, low: Decimal | None, high: Decimal | None) -> str:
    # The numbers are not repeated: no message contains a value of the request.
    if low is not None and not high_text:
        return "a range without an upper end is written >=10"
    if high is not None and not low_text:
        return "a range without a lower end is written <=10"
    return "a range has two numbers, as in 10..20; quote a text that contains two dots"


def _check_value(part: Part, kind: str) -> None:
    if "\0" in part.text:
        raise FilterError(part.position, "a value must not contain a NUL character")
    if not part.is_quoted and "*" in part.text:
        raise FilterError(part.position, "* tests for any value and stands alone; quote the text")
    if kind and not part.text:
        raise FilterError(part.position, f"{kind} needs a text that is not empty")


def _meanings(part: Part, kind: str) -> Iterator[Value]:
    """Yield what a value matches: its text, and the number or boolean that a bare one spells."""
    yield part.text
    if not part.is_quoted and not kind:
        if part.text in BOOLEANS:
            yield BOOLEANS[part.text]
        elif (number := _number(part.text, part.position)) is not None:
            yield number


def _number(text: str, position: int) -> Decimal | None:
    """Return the number that a text spells in JSON, else None. Raises: FilterError."""
    if not NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int), "JSON has no infinite numbers"
    if number.adjusted() >= _MAX_DIGITS or -exponent > _MAX_SCALE:
        raise FilterError(position, "the number has too many digits")
    return number
