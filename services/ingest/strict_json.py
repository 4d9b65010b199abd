"""Strict JSON: no duplicate keys, and no numbers beyond 1.8e308, the range of a double.

jsonb keeps only the last of duplicate keys, and parsers of clients turn larger numbers into
infinity: such events would not be stored, or read, as they were sent.
"""

import json
from math import isinf
from typing import Any

import msgspec

# Translates digits to zeros and all other bytes to spaces: 309 zeros in a row are an integer beyond
# the range of a double.
_AS_ZEROS = bytes(48 if 48 <= byte < 58 else 32 for byte in range(256))
_HUGE = b"0" * 309

_decode = msgspec.json.Decoder(dict[str, Any]).decode_lines
_encode = msgspec.json.Encoder().encode


class NotStrict(ValueError):
    """The reason why a text is not strict JSON, to follow a subject such as "properties"."""


class HugeNumber(NotStrict):
    """The text contains a number beyond the range of a double."""

    def __init__(self) -> None:
        super().__init__("must not hold numbers beyond 1.8e308")


def are_strict(text: bytes, objects: int) -> bool:
    """Whether a text is this number of objects, one per line, that are certainly strict.

    If false, each needs a closer look.
    """
    return strict_objects(text, objects) is not None


def strict_objects(text: bytes, objects: int) -> list[dict[str, Any]] | None:
    """The objects of a text; None if `are_strict` is false."""
    # Decoding drops duplicate keys. Encoded again, the text has fewer colons then: there is one per
    # key, and those in strings are kept.
    if (
        not has_one_object_per_line(text, objects)
        or may_escape_colon(text)
        or _HUGE in text.translate(_AS_ZEROS)
    ):
        return None
    try:
        decoded = _decode(text)
        is_strict = _encode(decoded).count(b":") == text.count(b":")
        return decoded if is_strict and len(decoded) == objects else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def has_one_object_per_line(text: bytes, lines: int) -> bool:
    """Whether each line is one object, provided that the text decodes as that many objects."""
    # Then none continues on the next line: `}` is never followed by `{` within an object.
    return text.startswith(b"{") and text.count(b"}\n{") == lines - 1


def may_escape_colon(text: bytes) -> bool:
    """Whether the text may contain an escaped colon, which makes counting colons unreliable."""
    return b"\\u003" in text and (b"\\u003a" in text or b"\\u003A" in text)


def check_strict(text: str) -> None:
    """Check one text. Raises: NotStrict."""
    if are_strict(text.encode(errors="replace"), 1):
        return
    try:
        _strict_decoder.decode(text)
    except NotStrict:
        raise
    except (ValueError, RecursionError):
        raise NotStrict("must be valid JSON") from None


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        raise NotStrict("must not have a key twice")


def _refuse_huge(number: str) -> None:
    if isinf(float(number)):
        raise HugeNumber


def _refuse_constant(name: str) -> None:
    # NaN and Infinity, which are not JSON, but which Python's decoder accepts.
    raise NotStrict("must be valid JSON")


_strict_decoder = json.JSONDecoder(
    object_pairs_hook=_refuse_repeated,
    parse_int=_refuse_huge,
    parse_float=_refuse_huge,
    parse_constant=_refuse_constant,
)
