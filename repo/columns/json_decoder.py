"""Decoding of JSON objects of any depth with exact numbers.

Numbers become int, or bytes with their text.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

# bytes occur nowhere else in decoded JSON, and cost half as much to create as Decimal.
_decoder = msgspec.json.Decoder(float_hook=str.encode)

_TOKEN = re.compile(r'\s*([{}\[\]]|"[^"\\]*(?:\\.[^"\\]*)*"|[^\s,:{}\[\]"]+)\s*([:,]?)')
_LITERALS = {"null": None, "true": True, "false": False}


def decode(text: bytes | memoryview | str) -> Any:
    """Return a JSON value."""
    try:
        return _decoder.decode(text)
    except (msgspec.ValidationError, RecursionError):
        # msgspec refuses integers of more than 4,300 digits, and deep nesting.
        return _decode_iteratively(text if isinstance(text, str) else str(text, "utf-8"))


def decode_lines(texts: Sequence[bytes | str]) -> list[Any]:
    """Return JSON values."""
    try:
        # One call for all of them takes two thirds of the time.
        values = _decoder.decode_lines(b"\n".join(texts))  # type: ignore[arg-type]
    except (TypeError, msgspec.DecodeError, RecursionError):
        # Some are texts, or have line breaks, or are refused.
        return [decode(text) for text in texts]
    return values


def _decode_iteratively(text: str) -> Any:
    top: list[Any] = []
    containers: list[Any] = [top]
    key = ""
    for match in _TOKEN.finditer(text):
        token, separator = match.groups()
        if separator == ":":
            key = msgspec.json.decode(token)
        elif token in ("}", "]"):
            containers.pop()
        else:
            value = _value(token)
            _add(containers[-1], key, value)
            if token in ("{", "["):
                containers.append(value)
    return top[0]


def _add(container: Any, key: str, value: Any) -> None:
    if isinstance(container, dict):
        container[key] = value
    else:
        container.append(value)


def _value(token: str) -> Any:
    if token == "{":
        return {}
    if token == "[":
        return []
    if token in _LITERALS:
        return _LITERALS[token]
    return msgspec.json.decode(token) if token[0] == '"' else token.encode()
