"""Lone surrogates in JSON: `\\ud800` without its other half, which is no character.

JSON allows the escape, but neither PostgreSQL nor UTF-8 can hold it. Decoders refuse the whole
text, so that it has to be searched for to say which event has it.
"""

import json
import re
from typing import Any

_MAX_REPLACED = 10_000
# Up to the next lone surrogate. Linear time for any text: possessive quantifiers do not backtrack.
_BEFORE = re.compile(
    rb"(?:[^\\]++|\\(?:[^u]|u(?![dD][89a-fA-F])"
    rb"|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))*+",
    re.DOTALL,
)
_LONE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_REPLACEMENT = rb"\ufffd"


def replace_lone_surrogates(text: bytes) -> bytes | None:
    """A JSON text of the same length without lone surrogates; None if it has none, or too many."""
    parts: list[bytes] = []
    position = 0
    while lone := _next_lone(text, position):
        if len(parts) > 2 * _MAX_REPLACED:
            return None
        parts += text[position : lone.start()], _REPLACEMENT
        position = lone.end()
    return b"".join([*parts, text[position:]]) if parts else None


def _next_lone(text: bytes, position: int) -> re.Match[bytes] | None:
    before = _BEFORE.match(text, position)
    return _LONE.match(text, before.end()) if before else None


def lone_surrogate_field(text: str) -> str | None:
    """The first key of an object whose value has a lone surrogate; None if there is none.

    Empty if a key has one, or if the text is not an object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not _has_surrogate(value):
        return None
    fields = value.items() if isinstance(value, dict) else ()
    return next((key for key, inner in fields if _has_surrogate(inner)), "")


def _has_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
