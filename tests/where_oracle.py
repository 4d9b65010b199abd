"""Filters in plain Python: what `where` means for one event, without any code of the product.

A parsed filter has the form that filters have in JSON: `{"property": ["cart", "total"],
"gt": Decimal(20)}`, `{"all": [...]}`, `{"any": [...]}`, `{"not": ...}`.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

Tree = dict[str, Any]

_PART = r'(?:"(?:[^"\\]|\\["\\])*"|[^ ,()":.]+)'
_VALUE = r'(?:"(?:[^"\\]|\\["\\])*"|[^ ,()"]+)'
_TOKEN = re.compile(
    rf" *(?:([()])|((?i:or|and|not)(?=[ ()]|$))|(-)|((?:{_PART}\.)*{_PART}):([<>]=?|[~^])?"
    rf"({_VALUE}(?:,{_VALUE})*))"
)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_COMPARISONS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


class Event(NamedTuple):
    user_id: str | None
    """Empty or None: no user."""
    event_name: str
    properties: Any
    """As `load` returns them."""


def load(text: str) -> Any:
    """Return parsed JSON in which all numbers are decimals."""
    return json.loads(text, parse_int=Decimal, parse_float=Decimal)


def matches(where: str | Tree, event: Event) -> bool:
    """Return whether an event matches a filter, which must be one that the service accepts."""
    tree = parse(where) if isinstance(where, str) else where
    if "all" in tree:
        return all(matches(part, event) for part in tree["all"])
    if "any" in tree:
        return any(matches(part, event) for part in tree["any"])
    if "not" in tree:
        return not matches(tree["not"], event)
    return any(_holds(tree, value) for value in values(event, tree["property"]))


def values(event: Event, path: Sequence[str] | str) -> list[Any]:
    """Return the values of a property, or of `@event` or `@user`."""
    if path == "@event":
        return [event.event_name]
    if path == "@user":
        return [event.user_id] if event.user_id else []
    return list(_values(event.properties, path))


def _values(node: Any, path: Sequence[str]) -> Iterator[Any]:
    if isinstance(node, list):
        for element in node:
            yield from _values(element, path)
    elif isinstance(node, dict):
        if path and path[0] in node:
            yield from _values(node[path[0]], path[1:])
    elif not path and node is not None:
        yield node


def _holds(tree: Tree, value: Any) -> bool:
    ((test, operand),) = ((key, tree[key]) for key in tree if key != "property")
    if test == "exists":
        return True
    if test == "is":
        return any(type(value) is type(each) and value == each for each in operand)
    if test == "starts_with":
        return isinstance(value, str) and any(value[: len(each)] == each for each in operand)
    if test == "contains":
        return isinstance(value, str) and any(
            each.casefold() in value.casefold() for each in operand
        )
    if not isinstance(value, Decimal):
        return False
    if test == "between":
        return bool(operand[0] <= value <= operand[1])
    return bool(
        (value > operand and test in ("gt", "gte"))
        or (value < operand and test in ("lt", "lte"))
        or (value == operand and test in ("gte", "lte"))
    )


_USED: dict[str, type] = {
    **dict.fromkeys(("gt", "gte", "lt", "lte", "between"), Decimal),
    **dict.fromkeys(("starts_with", "contains"), str),
}
_TYPES = {str: "text", Decimal: "number", bool: "boolean"}


def skipped(
    where: str | Tree, events: Iterable[Event]
) -> dict[tuple[tuple[str, ...], str, str], int]:
    """Return the events by property, type that a condition compares, and type that it skips."""
    result: Counter[tuple[tuple[str, ...], str, str]] = Counter()
    compared = {
        (tuple(term["property"]), _USED[test])
        for term in terms(parse(where) if isinstance(where, str) else where)
        for test in term
        if test in _USED and not isinstance(term["property"], str)
    }
    for event in events:
        for path, used in compared:
            for kind in {type(value) for value in values(event, path)} - {used}:
                result[path, _TYPES[used], _TYPES[kind]] += 1
    return dict(result)


def terms(tree: Tree) -> Iterator[Tree]:
    """Yield the conditions of a filter."""
    if "property" in tree:
        yield tree
    for part in [*tree.get("all", []), *tree.get("any", []), *filter(None, [tree.get("not")])]:
        yield from terms(part)


def parse(where: str) -> Tree:
    """Return the filter that a text means; the service must accept the text."""
    tokens = list(_TOKEN.finditer(where))
    assert "".join(token[0] for token in tokens) == where.rstrip(" "), where
    tree = _or(tokens)
    assert not tokens, where
    return tree


def _is_next(tokens: list[re.Match[str]], text: str) -> bool:
    """Take the next token, a word or sign, if it is this one."""
    is_it = bool(tokens) and tokens[0][0].strip(" ").lower() == text
    del tokens[: int(is_it)]
    return is_it


def _or(tokens: list[re.Match[str]]) -> Tree:
    parts = [_and(tokens)]
    while _is_next(tokens, "or"):
        parts.append(_and(tokens))
    return {"any": parts}


def _and(tokens: list[re.Match[str]]) -> Tree:
    parts = [_item(tokens)]
    while tokens and tokens[0][0].strip(" ").lower() not in ("or", ")"):
        _is_next(tokens, "and")
        parts.append(_item(tokens))
    return {"all": parts}


def _item(tokens: list[re.Match[str]]) -> Tree:
    if _is_next(tokens, "-") or _is_next(tokens, "not"):
        return {"not": _item(tokens)}
    if _is_next(tokens, "("):
        tree = _or(tokens)
        assert _is_next(tokens, ")")
        return tree
    *_, name, operator, operand = tokens.pop(0).groups()
    return {"property": _path(name), **_test(operator, operand)}


def _path(name: str) -> Sequence[str]:
    if name in ("@event", "@user"):
        return name
    return [_unquoted(part) for part in re.findall(_PART, name)]


def _test(operator: str | None, operand: str) -> Tree:
    parts = re.findall(_VALUE, operand)
    if operator in _COMPARISONS:
        return {_COMPARISONS[operator]: Decimal(operand)}
    if operator:
        return {"starts_with" if operator == "^" else "contains": [*map(_unquoted, parts)]}
    if operand == "*":
        return {"exists": True}
    if ".." in operand and operand[0] != '"' and len(parts) == 1:
        return {"between": [Decimal(end) for end in operand.split("..")]}
    return {"is": [meaning for part in parts for meaning in _meanings(part)]}


def _meanings(part: str) -> Iterator[Any]:
    yield _unquoted(part)
    if part in ("true", "false"):
        yield part == "true"
    elif _NUMBER.fullmatch(part):
        yield Decimal(part)


def _unquoted(part: str) -> str:
    return re.sub(r"\\(.)", r"\1", part[1:-1]) if part[0] == '"' else part
