"""The answers that are lists of users."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from common.questions.answer import Answer, Meta, Table, absent_field


@dataclass(frozen=True, slots=True)
class UserListMeta(Meta):
    count: int
    """The number of users on all pages; in lists with `sessions`, the number of sessions."""
    next_cursor: str | None
    """The cursor of the next page; null at the end of the list."""

    # The cursor holds the snapshot of the first page, which differs between computations.
    volatile_fields: ClassVar[tuple[str, ...]] = (*Meta.volatile_fields, "next_cursor")

    def headers(self) -> dict[str, str]:
        """Return the number of users, the cursor of the next page, and unknown names."""
        cursor = {"X-Next-Cursor": self.next_cursor} if self.next_cursor else {}
        return {**Meta.headers(self), "X-Count": str(self.count), **cursor}


@dataclass(frozen=True, slots=True)
class CellMeta(UserListMeta):
    cell: str = field(default_factory=absent_field)
    """The cell of the request; left out for the total."""


@dataclass(frozen=True, slots=True)
class CountedUser:
    """A user whom a number counts."""

    user_id: str


@dataclass(frozen=True, slots=True)
class SessionsOfUser:
    """A user, and how many of their sessions a number counts."""

    user_id: str
    sessions: int


@dataclass(frozen=True, slots=True)
class CountedUsers(Answer[list[CountedUser] | list[SessionsOfUser]]):
    """A page of the users whom a number counts, in the order of their ids."""

    meta: CellMeta
    has_sessions: Annotated[bool, Field(exclude=True)] = False
    """Whether the number counts sessions, never part of the response."""

    def table(self) -> Table:
        return SessionsOfUser if self.has_sessions else CountedUser, self.data

    def headers(self) -> dict[str, str]:
        return self.meta.headers()
