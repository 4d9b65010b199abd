"""The ids of users in lists, and the cursors of their pages."""

from collections.abc import Mapping
from typing import Any

from common.errors import TooExpensive
from common.user_pages import UserPage, UserPosition
from config.database import Cursor
from repo.engine.ordinals import Ordinals
from repo.engine.watermark import Watermark
from repo.hide_from_pg_stat_activity import Hidden
from repo.queries.answers import lineage_of
from repo.queries.base import BaseReduction
from repo.queries.user_page import NamedUser
from repo.statements import statements

SQL = statements("users")

_MAX_NAMED = 1_000_000  # users whose ids are sorted for a page


class UserNames:
    """Finds the ids of users by their ordinals."""

    def __init__(self, cur: Cursor, new_users: Mapping[str, int], cheaper: str) -> None:
        """`new_users` are the temporary ordinals by user id. `cheaper` is what to request where
        there are too many users.
        """
        self._cur = cur
        self._new_users = {ordinal: user_id for user_id, ordinal in new_users.items()}
        self._cheaper = cheaper

    def in_order(self, ordinals: Ordinals, after: str | None, limit: int) -> list[tuple[str, int]]:
        """Return the ids and ordinals of users, by id, whose ids are greater than `after`.

        Raises: TooExpensive.
        """
        if len(ordinals) > _MAX_NAMED:
            raise TooExpensive("users to sort by id", len(ordinals), _MAX_NAMED, self._cheaper)
        if not len(ordinals) or limit <= 0:
            return []
        params = {
            "ordinals": ordinals.tolist(),
            "after": None if after is None else Hidden(after),
            "limit": limit,
        }
        self._cur.execute(SQL["users_in_order"], params)
        new = [
            (user_id, ordinal)
            for ordinal in params["ordinals"]
            if (user_id := self._new_users.get(ordinal)) and (after is None or user_id > after)
        ]
        return sorted([*self._cur.fetchall(), *new])[:limit]


def cursor_after(
    cur: Cursor,
    reduction: BaseReduction[Any, Any],
    watermark: Watermark | None,
    last: NamedUser | None,
) -> str | None:
    """Return the cursor of the page after a user; None after the last page, which has none."""
    page: UserPage | None = reduction.query.page
    if last is None:
        return None
    assert page, "lists have pages"
    snapshot = page.position.snapshot if page.position else _snapshot(cur, watermark)
    return page.cursor_at(
        UserPosition(
            last.value,
            last.user_id,
            *reduction.time_range,
            reduction.now,
            snapshot,
            lineage_of(watermark),
        )
    )


def _snapshot(cur: Cursor, watermark: Watermark | None) -> str:
    """Return the snapshot of this transaction."""
    if watermark:
        return watermark.now.text
    cur.execute(SQL["users_snapshot"])
    (text,) = cur.fetchone() or ("",)
    return str(text)
