"""Statements whose plans sessions keep: planning them takes longer than what they do."""

import hashlib
import re
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from utils.sessions import statement_name

_PARAMETER = re.compile(r"%\((\w+)\)s")
_PLANNED_FOR_S = 10.0
"""A plan was made for tables as large as they were: those of a new database grow fast."""


class Kept(NamedTuple):
    """Three forms of the same statement."""

    name: str
    """As sessions know it. No other statement has it, not that of another version either."""
    plain: str
    preparing: str
    calling: str


def kept(text: str) -> Kept:
    """PostgreSQL infers the types of the parameters, which `text` must make plain."""
    parameters = list(dict.fromkeys(_PARAMETER.findall(text)))
    numbered = _PARAMETER.sub(lambda found: f"${parameters.index(found[1]) + 1}", text)
    name = f"{statement_name(text)}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    given = ", ".join(f"%({parameter})s" for parameter in parameters)
    return Kept(
        name,
        text,
        f"prepare {name} as {numbered.replace('%%', '%')}",
        f"/* {statement_name(text)} */ execute {name} ({given})",
    )


@dataclass(slots=True)
class Sessions:
    """Whether those of a pool stay the same. A pooler between lends another one each time: what was
    said to one is unknown to the next, which may even be of another server."""

    are_ours: bool = True


@dataclass(slots=True)
class Session:
    """What is known of one."""

    all: Sessions = field(default_factory=Sessions)
    _prepared_at: dict[str, float] = field(default_factory=dict)

    def preparing(self, statement: Kept) -> str | None:
        """What there is to say before a statement is called; None where it was said."""
        at = self._prepared_at.get(statement.name)
        if at is None:
            return statement.preparing
        if time.monotonic() < at + _PLANNED_FOR_S:
            return None
        return f"deallocate {statement.name}; {statement.preparing}"

    def prepared(self, statement: Kept) -> None:
        self._prepared_at[statement.name] = time.monotonic()
