"""Where in an object a value stands: `user.id` is the key `id` of the object under `user`."""

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
    """A key that has a dot in it stands in quotes: `"a.b"`. Raises: ValueError."""
    if not _PATH.fullmatch(source):
        raise ValueError(f"{source} is no path of keys: use user.id, or quotes for one key")
    return tuple(map(_key, re.findall(_PART, source)))


def source_of(path: Path) -> str:
    """How the path is written."""
    return ".".join(f'"{_doubled(key)}"' if re.search(r'[."]', key) else key for key in path)


def has_path(value: Any, path: Path) -> bool:
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return True


def paths_in(value: Any, path: Path = ()) -> Iterator[Path]:
    """Of each value in an object, inner ones after what they are in."""
    if path:
        yield path
    if isinstance(value, Mapping) and len(path) < _MAX_DEPTH:
        for key, inner in value.items():
            yield from paths_in(inner, (*path, key))


def suggest(source: str, others: list[str]) -> str:
    """A hint to what may have been meant, and what there is."""
    close = get_close_matches(source, others, n=1)
    hint = f"; did you mean {close[0]}?" if close else ";"
    more = ", ..." if len(others) > _MAX_SUGGESTED else ""
    return f"{hint} there are {', '.join(others[:_MAX_SUGGESTED])}{more}"


def _key(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def _doubled(key: str) -> str:
    return key.replace('"', '""')
