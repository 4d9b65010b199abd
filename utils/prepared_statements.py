"""Statements whose plans sessions keep: planning them takes longer than what they do."""

import hashlib
import re
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from utils.session_options import statement_name

_PARAMETER = re.compile(r"%\((\w+)\)s")
_PLAN_LIFETIME_S = 10.0
"""A plan was made for tables as large as they were: those of a new database grow fast."""


class PreparedStatement(NamedTuple):
    """Three forms of the same statement."""

    name: str
    """As sessions know it. No other statement has it, not that of another version either."""
    plain_sql: str
    prepare_sql: str
    execute_sql: str


def prepared_statement(text: str) -> PreparedStatement:
    """PostgreSQL infers the types of the parameters, which `text` must make plain."""
    parameters = list(dict.fromkeys(_PARAMETER.findall(text)))
    numbered = _PARAMETER.sub(lambda found: f"${parameters.index(found[1]) + 1}", text)
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
    """Whether those of a pool stay the same. A pooler between lends another one each time: what was
    said to one is unknown to the next, which may even be of another server."""

    is_direct: bool = True


@dataclass(slots=True)
class Session:
    """What is known of one."""

    pool_sessions: PoolSessions = field(default_factory=PoolSessions)
    _prepared_at: dict[str, float] = field(default_factory=dict)

    def pending_prepare(self, statement: PreparedStatement) -> str | None:
        """What there is to say before a statement is called; None where it was said."""
        prepared_at = self._prepared_at.get(statement.name)
        if prepared_at is None:
            return statement.prepare_sql
        if time.monotonic() < prepared_at + _PLAN_LIFETIME_S:
            return None
        return f"deallocate {statement.name}; {statement.prepare_sql}"

    def mark_prepared(self, statement: PreparedStatement) -> None:
        self._prepared_at[statement.name] = time.monotonic()
