"""Keyset pagination: opaque cursors that hold a position in a list, bound to its question."""

import binascii
import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Annotated, Literal, TypeVar
from uuid import UUID

import msgspec

AwareDatetime = Annotated[datetime, msgspec.Meta(tz=True)]
Direction = Literal["older", "newer"]
P = TypeVar("P", bound=msgspec.Struct)

# Enough to refuse damaged cursors and those of other questions. It is no signature: the key is not
# secret, so the caller still has to check the values of a position.
_DIGEST_BYTES = 12


class Position(msgspec.Struct, frozen=True, array_like=True):
    """A place next to one event, and the time range of the first page."""

    direction: Direction
    occurred_at: AwareDatetime
    event_id: UUID
    start: AwareDatetime
    end: AwareDatetime


def encode_cursor(position: msgspec.Struct, question: str) -> str:
    """Return the position as URL-safe text; `question` is the fingerprint of the question."""
    body = msgspec.msgpack.encode(position)
    return _encode_text(_digest(body, question) + body)


def decode_cursor(text: str, question: str, position_type: type[P]) -> P:
    """Return the position of a cursor. Raises: ValueError for a cursor of another question."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as exc:
        raise ValueError("not a cursor") from exc
    digest, body = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
    # base64 decoders ignore some characters and trailing bits: only the canonical text is valid.
    if _encode_text(raw) != text or digest != _digest(body, question):
        raise ValueError("not a cursor of this question")
    try:
        return msgspec.msgpack.decode(body, type=position_type)
    except msgspec.DecodeError as exc:
        raise ValueError("not a position") from exc


def _encode_text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _digest(body: bytes, question: str) -> bytes:
    return hashlib.blake2b(body, key=question.encode()[:64], digest_size=_DIGEST_BYTES).digest()
