"""Prepared statements, for frequent queries whose planning takes longer than their execution."""

import hashlib
import re
from typing import NamedTuple

from utils.session_options import statement_name

_PARAMETER = re.compile(r"%\((\w+)\)s")


class PreparedStatement(NamedTuple):
    """A statement as plain SQL, and as the SQL of `prepare`, which numbers the parameters."""

    label: str
    """The name in the comment before the statement."""
    name: str
    """The name in the session; unique to the text, so versions of the service do not clash."""
    plain_sql: str
    numbered_sql: str
    parameters: tuple[str, ...]
    """The names of the parameters, in the order of their numbers."""


def prepared_statement(text: str) -> PreparedStatement:
    """Return the forms of a statement, from whose text PostgreSQL can infer the parameter types."""
    parameters = tuple(dict.fromkeys(_PARAMETER.findall(text)))
    numbered = _PARAMETER.sub(lambda match: f"${parameters.index(match[1]) + 1}", text)
    label, digest = statement_name(text), hashlib.sha256(text.encode()).hexdigest()
    return PreparedStatement(
        label, f"{label}_{digest[:12]}", text, numbered.replace("%%", "%"), parameters
    )
