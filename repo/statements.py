"""Load the named SQL statements of the files in `repo/sql/`."""

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def statements(file: str) -> dict[str, str]:
    """Return the statements of a file by name; each begins with its name as a comment."""
    text = files("repo").joinpath("sql", f"{file}.sql").read_text()
    _, *parts = _NAME.split(text)
    named = zip(parts[::2], parts[1::2], strict=True)
    return {name: f"/* {name} */ {body.strip()}" for name, body in named}
