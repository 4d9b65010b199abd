"""Roles belong to the cluster, and have rights in each database: no more than they need."""

from collections.abc import Mapping
from typing import Literal, get_args

from psycopg2 import sql
from psycopg2.extensions import connection, cursor, encrypt_password

from repo.statements import statements

Role = Literal["reader", "writer", "folder", "grafana"]
"""Asks questions; stores events; folds them; reads the numbers of days."""

ROLES: tuple[Role, ...] = get_args(Role)


def role_name(role: Role) -> str:
    """What PostgreSQL knows it by."""
    return f"analytics_{role}"


SQL = statements("roles")

_NAMES = {"names": [role_name(role) for role in ROLES]}
_LOCK = 7_034_127_519_202_612  # any number, the same in all processes


def owns_tables(cur: cursor) -> bool:
    """Whether this is a session of their owner, if there are any."""
    cur.execute(SQL["roles_owns"])
    return bool(cur.fetchone() == (True,))


def create_roles(cur: cursor) -> None:
    """Make the roles that are missing and give all what they lack, in the owner's session.

    One without the right to make roles leaves them out.
    """
    if missing_roles(cur):
        cur.execute(SQL["roles_make"])
    cur.execute(SQL["roles_lacking"])
    for (grant,) in cur.fetchall():
        cur.execute(grant)


def missing_roles(cur: cursor) -> list[str]:
    cur.execute(SQL["roles_missing"], _NAMES)
    return [name for (name,) in cur]


def enable_logins(conn: connection, passwords: Mapping[Role, str]) -> None:
    """Let each role in by its password, and nobody else but the owner.

    For a cluster that is this program's alone: elsewhere logins are made by who runs it. Processes
    that do so at once take turns. Raises: psycopg2.Error.
    """
    with conn, conn.cursor() as cur:
        if not _roles_without_login(cur):
            return
        cur.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
        cur.execute(SQL["roles_make"])
        without_login = _roles_without_login(cur)
        for role, password in passwords.items():
            if role_name(role) in without_login:
                _set_password(cur, role_name(role), password)
        cur.execute(SQL["roles_revoke_public"])


def _roles_without_login(cur: cursor) -> set[str]:
    """The roles that nobody can come in as."""
    cur.execute(SQL["roles_with_login"], _NAMES)
    return {*_NAMES["names"]} - {name for (name,) in cur}


def _set_password(cur: cursor, name: str, password: str) -> None:
    """Its password is never part of a statement, which logs may show."""
    verifier = encrypt_password(password, name, cur.connection, "scram-sha-256")
    statement = sql.SQL("alter role {} login password {}")
    cur.execute(statement.format(sql.Identifier(name), sql.Literal(verifier)))
