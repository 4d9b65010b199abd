"""SQL lives in `repo/sql/`, one file per question; Python only names it."""

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def statements(file: str) -> dict[str, str]:
    """The statements of one file by name; each carries its name into PostgreSQL's logs."""
    text = files("repo").joinpath("sql", f"{file}.sql").read_text()
    _, *parts = _NAME.split(text)
    named = zip(parts[::2], parts[1::2], strict=True)
    return {name: f"/* {name} */ {body.strip()}" for name, body in named}
