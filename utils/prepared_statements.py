"""Prepared statements, for frequent queries whose planning takes longer than their execution."""

import hashlib
import math
import re
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from utils.session_options import statement_name

_PARAMETER = re.compile(r"%\((\w+)\)s")
# A generic plan is made for the size that tables have at the time, and those of a new database grow
# fast: a plan for an empty table scans all of it.
_PLAN_LIFETIME_S = 10.0


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


@dataclass(slots=True)
class PoolSessions:
    """Properties that all sessions of a pool share."""

    # A pooler such as PgBouncer in transaction mode uses another session for each transaction, even
    # one of another server: it does not know the statements that were prepared before.
    is_direct: bool = True
    """Whether each connection keeps its session; false once a connection pooler was noticed."""


@dataclass(slots=True)
class Session:
    """The prepared statements of one session."""

    pool_sessions: PoolSessions = field(default_factory=PoolSessions)
    _prepared_at: dict[str, float] = field(default_factory=dict)

    def is_prepared(self, statement: PreparedStatement) -> bool:
        return statement.name in self._prepared_at

    def has_plan(self, statement: PreparedStatement) -> bool:
        """Return whether a statement is prepared, and not too long ago."""
        prepared_at = self._prepared_at.get(statement.name, -math.inf)
        return time.monotonic() < prepared_at + _PLAN_LIFETIME_S

    def mark_prepared(self, statement: PreparedStatement) -> None:
        self._prepared_at[statement.name] = time.monotonic()
