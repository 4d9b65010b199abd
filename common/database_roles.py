"""The roles of PostgreSQL: who does what there, and nothing else."""

from typing import Literal, get_args

Role = Literal["reader", "writer", "folder", "grafana"]
"""Asks questions; stores events; folds them; reads the numbers of days."""

ROLES: tuple[Role, ...] = get_args(Role)


def role_name(role: Role) -> str:
    """What PostgreSQL knows it by."""
    return f"analytics_{role}"
