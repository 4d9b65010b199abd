"""Paths of keys in JSON objects: `user.id` is the key `id` of the object under the key `user`."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

Path = tuple[str, ...]

_PART = r'(?:"(?:[^"]|"")+"|[^".]+)'
_PATH = re.compile(rf"{_PART}(?:\.{_PART})*")
_MAX_DEPTH = 5
_MAX_SUGGESTED = 20


def path_of(source: str) -> Path:
    """The path that a text denotes; a key with a dot is quoted, as `"a.b"`. Raises: ValueError."""
    if not _PATH.fullmatch(source):
        raise ValueError(
            f'{source} is not a path of keys: use user.id for a key in an object, and "user.id" '
            "for a key with a dot"
        )
    return tuple(map(_key, re.findall(_PART, source)))


def source_of(path: Path) -> str:
    """The text of a path, with quotes where they are needed."""
    return ".".join(f'"{_doubled(key)}"' if re.search(r'[."]', key) else key for key in path)


def has_path(value: Any, path: Path) -> bool:
    """Whether there is a value at the path, which may be null."""
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return True


def paths_in(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of all values in an object, each object before its own values."""
    if path:
        yield path
    if isinstance(value, Mapping) and len(path) < _MAX_DEPTH:
        for key, inner in value.items():
            yield from paths_in(inner, (*path, key))


def suggest(source: str, others: list[str]) -> str:
    """A suffix for a message about an unknown name: the closest name, and all known names."""
    close = get_close_matches(source, others, n=1)
    hint = f"; did you mean {close[0]}?" if close else ";"
    more = ", ..." if len(others) > _MAX_SUGGESTED else ""
    return f"{hint} there are {', '.join(others[:_MAX_SUGGESTED])}{more}"


def _key(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def _doubled(key: str) -> str:
    return key.replace('"', '""')
