"""Statements whose plans sessions keep: planning them takes longer than what they do."""

import hashlib
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from utils.sessions import statement_name

_PARAMETER = re.compile(r"%\((\w+)\)s")


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
class Plans:
    """Whether the sessions of a pool keep any: those that a pooler lends are others each time."""

    are_kept: bool = True


@dataclass(slots=True)
class Session:
    """What is known of one."""

    plans: Plans = field(default_factory=Plans)
    names: set[str] = field(default_factory=set)
    """Of the statements that it keeps."""

    def keeps(self, statement: Kept) -> bool:
        return statement.name in self.names
