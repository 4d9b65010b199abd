"""Prepared statements, for frequent queries whose planning takes longer than their execution."""

import hashlib
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
    """A statement as plain SQL, and the SQL to prepare and to execute it."""

    name: str
    """The name in the session; unique to the text, so versions of the service do not clash."""
    plain_sql: str
    prepare_sql: str
    execute_sql: str


def prepared_statement(text: str) -> PreparedStatement:
    """Return the forms of a statement, from whose text PostgreSQL can infer the parameter types."""
    parameters = list(dict.fromkeys(_PARAMETER.findall(text)))
    numbered = _PARAMETER.sub(lambda match: f"${parameters.index(match[1]) + 1}", text)
    name = f"{statement_name(text)}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    arguments = ", ".join(f"%({parameter})s" for parameter in parameters)
    return PreparedStatement(
        name,
        text,
        f"prepare {name} as {numbered.replace('%%', '%')}",
        f"/* {statement_name(text)} */ execute {name} ({arguments})",
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

    def pending_prepare(self, statement: PreparedStatement) -> str | None:
        """Return the SQL to run before executing a statement; None if it is prepared."""
        prepared_at = self._prepared_at.get(statement.name)
        if prepared_at is None:
            return statement.prepare_sql
        if time.monotonic() < prepared_at + _PLAN_LIFETIME_S:
            return None
        return f"deallocate {statement.name}; {statement.prepare_sql}"

    def mark_prepared(self, statement: PreparedStatement) -> None:
        self._prepared_at[statement.name] = time.monotonic()
