"""JSON that is stored as it was written: no key comes twice, and no number is beyond 1.8e308.

Of a key that comes twice PostgreSQL keeps the last one, without a word.
"""

import json
from math import isinf
from typing import Any

import msgspec

# All digits as zeros, and all else as spaces: so many zeros are a whole number that is too large.
_AS_ZEROS = bytes(48 if 48 <= byte < 58 else 32 for byte in range(256))
_HUGE = b"0" * 309

_decode = msgspec.json.Decoder(dict[str, Any]).decode_lines
_encode = msgspec.json.Encoder().encode


class NotStrict(ValueError):
    """Why it is not; the text goes on after what it is about."""


class HugeNumber(NotStrict):
    """It holds a number that no float can hold."""

    def __init__(self) -> None:
        super().__init__("must not hold numbers beyond 1.8e308")


def are_strict(objects: bytes) -> bool:
    """Whether objects, each on a line of its own, certainly are. False: each needs a closer look.

    Written again they have as many colons, unless a key is gone: a colon in a string stays one.
    """
    if may_escape_colon(objects) or _HUGE in objects.translate(_AS_ZEROS):
        return False
    try:
        return _encode(_decode(objects)).count(b":") == objects.count(b":")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def may_escape_colon(text: bytes) -> bool:
    """Whether a colon may stand in it that is not written as one."""
    return b"\\" in text and b"\\u003" in text


def check_strict(text: str) -> None:
    """Raises: NotStrict."""
    if are_strict(text.encode(errors="replace")):
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
    """NaN and Infinity, which Python takes and JSON does not have."""
    raise NotStrict("must be valid JSON")


_strict_decoder = json.JSONDecoder(
    object_pairs_hook=_refuse_repeated,
    parse_int=_refuse_huge,
    parse_float=_refuse_huge,
    parse_constant=_refuse_constant,
)
