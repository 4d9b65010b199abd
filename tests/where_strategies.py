"""Random events with random filters of the same few values, so that about half of them match."""

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from hypothesis import strategies as st

from tests.where_oracle import Event, load

Texts = st.SearchStrategy[str]

TEXTS = [
    *("", "x", "xy", "X", "x y", "5", "5.0", "true", "null", "1e400", ".."),
    *("ß", "SS", "Straße", "İ", "i̇", "\u017f", "\u212a", "k", "ﬃ", "ü", "Ü"),
    *("\U0001f600", "\ue000", '"', "\\", "*", ">5", "a:b", "(x)", "-x", "%", "_", "\n", "\x01"),
]
SMALL_NUMBERS = [
    *("5", "5.0", "5e0", "0", "-0", "0.0", "1", "-1", "4.999", "127", "128", "-128", "-129"),
]
NUMBERS = [
    *SMALL_NUMBERS,
    *("9007199254740993", "9007199254740992", "9223372036854775807", "9223372036854775808"),
    *("-9223372036854775808", "-9223372036854775809", "12345678901234567890", "0.1", "0.10"),
    *("99999999999999999999.5", "0.000000000000000001", "1e-19", "1e400", "-1e400", "1e-400"),
]
EVENT_NAMES = ["view", "View", "buy", "5"]
USERS = ["u1", "U1", "5", "ü"]

_BARE = re.compile(r'(?![<>=!^~])[^ ,()"*]+')


class Case(NamedTuple):
    """Events, and a filter as text."""

    events: list[Event]
    where: str


def cases(
    texts: Sequence[str] = TEXTS, numbers: Sequence[str] = NUMBERS
) -> st.SearchStrategy[Case]:
    """Return events and filters whose texts and numbers are some of these."""

    def few(values: Sequence[str]) -> st.SearchStrategy[list[str]]:
        return st.lists(st.sampled_from(values), min_size=1, max_size=3)

    return st.tuples(few(texts), few(numbers) | few(SMALL_NUMBERS)).flatmap(
        lambda pair: st.builds(Case, _events(*pair), filters(_terms(*pair)))
    )


def _events(texts: list[str], numbers: list[str]) -> st.SearchStrategy[list[Event]]:
    scalars = st.sampled_from([*map(json.dumps, texts), *numbers, "true", "false"])
    values = scalars | st.recursive(
        scalars | st.just("null"),
        lambda each: st.lists(each, max_size=3).map(",".join).map("[{}]".format) | _objects(each),
        max_leaves=5,
    )
    always_a = st.fixed_dictionaries({"a": scalars}).map(_object)
    event = st.builds(
        Event,
        st.none() | st.sampled_from(USERS),
        st.sampled_from(EVENT_NAMES),
        (_objects(values) | always_a).map(load),
    )
    return st.lists(event, min_size=1, max_size=10)


def _objects(values: Texts) -> Texts:
    return st.fixed_dictionaries(
        {}, optional={"a": values, "b": values, "a.b": values, "": values}
    ).map(_object)


def _object(members: dict[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in members.items()) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _spelled(text: str) -> Texts:
    is_bare = _BARE.fullmatch(text) and ".." not in text
    return st.sampled_from([text, _quoted(text)] if is_bare else [_quoted(text)])


def _terms(texts: list[str], numbers: list[str]) -> Texts:
    """Conditions as text."""
    names = st.sampled_from(["a", "a", "a", "a", "b", "a.b", '"a.b"', '""', 'b."a.b"', "A"])
    likely = st.sampled_from([*texts, *numbers, "true", "false"])
    properties = st.builds("{}:{}".format, names, _tests(likely, numbers))
    event_names = st.builds("@event:{}".format, _tests(st.sampled_from(EVENT_NAMES), numbers))
    users = st.builds("@user:{}".format, _tests(st.sampled_from(USERS), numbers))
    # `one_of` would choose equal strategies once.
    return st.sampled_from([properties] * 8 + [event_names, users]).flatmap(lambda each: each)


def _tests(texts: Texts, numbers: list[str]) -> Texts:
    number = st.sampled_from([*numbers, "0"])
    prefixes = texts.flatmap(lambda text: st.sampled_from([text, text[:1], text[:2]]))
    parts = texts.flatmap(lambda text: st.sampled_from([text.upper(), text.lower(), text[-1:]]))
    return st.one_of(
        st.just("*"),
        _commas(texts.flatmap(_spelled)),
        _commas(prefixes.filter(bool).flatmap(_spelled)).map("^{}".format),
        _commas(parts.filter(bool).flatmap(_spelled)).map("~{}".format),
        st.builds("{}{}".format, st.sampled_from([">", ">=", "<", "<="]), number),
        st.tuples(number, number).map(lambda pair: "..".join(sorted(pair, key=Decimal))),
    )


def _commas(values: Texts) -> Texts:
    return st.lists(values, min_size=1, max_size=3).map(",".join)


def filters(items: Texts, levels: int = 2) -> Texts:
    """Return filters as text, of these conditions and groups of them."""
    signed = st.builds("{}{}".format, st.sampled_from(["", "", "-", "not "]), items)
    both = st.builds(str.join, st.sampled_from([" ", " and ", "  "]), _some(signed))
    either = _some(both).map(" or ".join)
    return filters(items | either.map("({})".format), levels - 1) if levels else either


def _some(parts: Texts) -> st.SearchStrategy[list[str]]:
    return st.lists(parts, min_size=1, max_size=2)
