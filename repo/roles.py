"""The PostgreSQL roles of the service, each with only the privileges that it needs."""

from collections.abc import Mapping
from typing import Literal, get_args

from psycopg2 import sql
from psycopg2.extensions import connection, cursor, encrypt_password

from repo.statements import statements

Role = Literal["reader", "writer", "rollup", "grafana"]
"""Answers questions; stores events; runs the rollup worker; reads the daily statistics."""

ROLES: tuple[Role, ...] = get_args(Role)


def role_name(role: Role) -> str:
    """Return the name of the role in PostgreSQL."""
    return f"analytics_{role}"


SQL = statements("roles")

_NAMES = {"names": [role_name(role) for role in ROLES]}
# Keys of advisory locks: arbitrary, equal in all processes.
_LOGINS_LOCK = 7_034_127_519_202_612
_GRANTS_LOCK = 7_034_127_519_202_613


def owns_tables(cur: cursor) -> bool:
    """Return whether the session's role owns the tables, if there are any."""
    cur.execute(SQL["roles_is_owner"])
    return bool(cur.fetchone() == (True,))


def create_roles(cur: cursor) -> None:
    """Create missing roles and grant missing privileges, in a session of the tables' owner.

    An owner who may not create roles creates none.
    """
    if missing_roles(cur):
        cur.execute(SQL["roles_create"])
    cur.execute(SQL["roles_grant_to_deprecated"])
    if _missing_grants(cur):
        cur.execute(SQL["roles_lock"], {"lock": _GRANTS_LOCK})
        for grant in _missing_grants(cur):
            cur.execute(grant)


def _missing_grants(cur: cursor) -> list[str]:
    """Return the statements that grant missing privileges."""
    cur.execute(SQL["roles_missing_grants"])
    return [grant for (grant,) in cur.fetchall()]


def roles_without_usage(cur: cursor) -> list[str]:
    """The roles that cannot use the schema, since its owner has to grant that."""
    cur.execute(SQL["roles_without_usage"], _NAMES)
    return [name for (name,) in cur]


def missing_roles(cur: cursor) -> list[str]:
    cur.execute(SQL["roles_missing"], _NAMES)
    return [name for (name,) in cur]


def enable_logins(conn: connection, passwords: Mapping[Role, str]) -> None:
    """Set the passwords of the roles, and let nobody else connect but the owner.

    For a cluster that only this service uses, such as the embedded one: elsewhere its administrator
    sets passwords. Raises: psycopg2.Error.
    """
    with conn, conn.cursor() as cur:
        if not _roles_without_login(cur):
            return
        # Checked again under the lock: another process may have set the passwords meanwhile.
        cur.execute("select pg_advisory_xact_lock(%s)", (_LOGINS_LOCK,))
        cur.execute(SQL["roles_create"])
        without_login = _roles_without_login(cur)
        for role, password in passwords.items():
            if role_name(role) in without_login:
                _set_password(cur, role_name(role), password)
        cur.execute(SQL["roles_revoke_public"])


def _roles_without_login(cur: cursor) -> set[str]:
    """Return the roles that cannot log in."""
    cur.execute(SQL["roles_with_login"], _NAMES)
    return {*_NAMES["names"]} - {name for (name,) in cur}


def _set_password(cur: cursor, name: str, password: str) -> None:
    # Only the verifier is part of the statement, which logs of the server may show.
    verifier = encrypt_password(password, name, cur.connection, "scram-sha-256")
    statement = sql.SQL("alter role {} login password {}").format(
        sql.Identifier(name), sql.Literal(verifier)
    )
    cur.execute(statement)
