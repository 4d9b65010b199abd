"""Pages of lists of users; all pages of a list are read from the snapshot of the first one."""

import re
from dataclasses import dataclass
from typing import Annotated

import msgspec
from pydantic import Field

from common.dates import EARLIEST, LATEST
from common.errors import InvalidCursor
from utils.keyset import AwareDatetime, decode_cursor, encode_cursor

_SNAPSHOT = re.compile(r"\d{1,19}:\d{1,19}:(\d{1,19}(,\d{1,19})*)?", re.ASCII)
_MAX_CURSOR = 8_000  # a snapshot lists the transactions that are open

CursorText = Annotated[str, Field(max_length=_MAX_CURSOR)]


class UserPosition(msgspec.Struct, frozen=True, array_like=True):
    """The position after a user in a list, and the snapshot of the first page."""

    value: int
    """The sort key of the user: a number of events, or microseconds since 2000-01-01 UTC; 0 in
    lists by `user_id`."""
    user_id: str
    start: AwareDatetime
    end: AwareDatetime
    now: AwareDatetime
    """The time of the snapshot of the first page."""
    snapshot: str
    """The transactions whose events the first page counted."""
    lineage: str
    """The lineage of the database that the transaction ids belong to."""

    @property
    def is_valid(self) -> bool:
        is_range = EARLIEST <= self.start < self.end <= LATEST and EARLIEST <= self.now <= LATEST
        is_user = abs(self.value) < 2**63 and "\0" not in self.user_id
        return is_range and is_user and bool(_SNAPSHOT.fullmatch(self.snapshot))


@dataclass(frozen=True, slots=True)
class UserPage:
    """A page of a list of users."""

    size: int
    """The maximum number of users."""
    position: UserPosition | None
    """The position of the cursor; None for the first page."""
    identity: str
    """The fingerprint of the parameters that must not change from page to page."""

    @property
    def after(self) -> str | None:
        """The id of the last user before the page; None for the first page."""
        return self.position.user_id if self.position else None

    def cursor_at(self, position: UserPosition) -> str:
        """Return the cursor of a page."""
        return encode_cursor(position, self.identity)


def page_of(cursor: str | None, size: int, identity: str) -> UserPage:
    """Return the page that a cursor leads to. Raises: InvalidCursor."""
    if cursor is None:
        return UserPage(size, None, identity)
    try:
        position = decode_cursor(cursor, identity, UserPosition)
    except ValueError:
        raise InvalidCursor from None
    # The digest has no secret key, so anybody who has the source code can make a valid cursor.
    if not position.is_valid:
        raise InvalidCursor
    return UserPage(size, position, identity)
