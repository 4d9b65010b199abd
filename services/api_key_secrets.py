"""Secrets of API keys: how they are generated and recognized, and the digest that is stored."""

import hashlib
import re
import secrets
from base64 import b64decode
from dataclasses import dataclass

_PREFIX = "ask_"
_HINT = len(_PREFIX) + 4
SECRET_PATTERN = re.compile(_PREFIX + "[A-Za-z0-9_-]{32,200}")


@dataclass(frozen=True, slots=True)
class Secret:
    """The secret of a new key: `text` is shown to its owner once, only the rest is stored."""

    text: str
    digest: bytes
    hint: str


def new_secret() -> Secret:
    """A random secret of 256 bits."""
    text = _PREFIX + secrets.token_urlsafe(32)
    return Secret(text, digest_of(text), text[:_HINT])


def parse_secret(text: str) -> Secret | None:
    """The secret of a key that was generated elsewhere; None if it lacks the form of a key, or is
    so short that it could be guessed."""
    if not SECRET_PATTERN.fullmatch(text):
        return None
    return Secret(text, digest_of(text), text[:_HINT])


def secret_in(authorization: str) -> str | None:
    """The secret in a header `Authorization`: `Bearer KEY`, or `Basic` with the key as user name.

    None for other headers.
    """
    kind, _, credentials = authorization.partition(" ")
    if kind.lower() == "bearer":
        return credentials.strip()
    return _user_name(credentials) if kind.lower() == "basic" else None


def _user_name(credentials: str) -> str | None:
    try:
        return b64decode(credentials.strip(), validate=True).decode().partition(":")[0]
    except ValueError:
        return None


def digest_of(text: str) -> bytes:
    """The SHA-256 digest of a secret, which is stored in its place."""
    # No slow password hash is needed: secrets are random and too long to be guessed.
    return hashlib.sha256(text.encode()).digest()
