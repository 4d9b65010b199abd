"""List the users whom a number of an answer counts, page by page, from columns."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from common.cells import Cell
from common.query import Query
from common.questions.answer import Checkpoint, absent_field
from common.questions.user_lists import CellMeta, CountedUser, CountedUsers, SessionsOfUser
from common.remarks import Remarks
from config.database import Cursor
from repo.engine.ordinals import Ordinals
from repo.engine.scan import OrderedCollector
from repo.queries.answers import CellChoice, choose_cell, remark_fields
from repo.queries.user_names import UserNames, cursor_after
from repo.queries.user_page import NamedUser

_CHEAPER = "a shorter range, or a smaller `cell`"


@runtime_checkable
class _NamesEvents(Protocol):
    """A collector that needs the event names by their ids, once all events are read."""

    names: Mapping[int, str]


class _Counted(NamedTuple):
    """The users whom a number counts."""

    ordinals: Ordinals
    """The users in ascending order."""
    sessions: NDArray[np.int64]
    """The number of sessions of each user, where the number counts sessions."""
    names: UserNames
    remarks: Remarks


def counted_users(cur: Cursor, query: Query, checkpoint: Checkpoint) -> CountedUsers:
    """Return a page of the users whom a number counts.

    Raises: InvalidParameter, InvalidCursor, EventsDropped, TooExpensive, and what the checkpoint
    raises.
    """
    assert query.cell, "a list is about a cell"
    assert query.page, "a list has pages"
    choice = choose_cell(cur, query, query.cell)
    choice.plan.check()
    counted = _read(cur, choice, query.cell, checkpoint)
    page, size = query.page, query.page.size
    users = counted.names.in_order(counted.ordinals, page.after, size + 1)
    last = NamedUser(0, *users[size - 1]) if len(users) > size else None
    has_sessions = choice.reduction.counts_sessions
    meta = CellMeta(
        **{**choice.meta, **remark_fields(counted.remarks)},
        count=int(counted.sessions.sum()) if has_sessions else len(counted.ordinals),
        next_cursor=cursor_after(cur, choice.reduction, choice.watermark, last),
        cell=query.cell.text or absent_field(),
    )
    if not has_sessions:
        return CountedUsers([CountedUser(user_id) for user_id, _ in users[:size]], meta)
    sessions = dict(zip(counted.ordinals.tolist(), counted.sessions.tolist(), strict=True))
    rows = [SessionsOfUser(user_id, sessions[ordinal]) for user_id, ordinal in users[:size]]
    return CountedUsers(rows, meta, has_sessions=True)


def _read(cur: Cursor, choice: CellChoice, cell: Cell, checkpoint: Checkpoint) -> _Counted:
    reduction, reader = choice.reduction, choice.reader
    collector = reduction.cell_collector(cell)
    evaluation = reader.read(choice.plan, collector)
    if isinstance(collector, _NamesEvents):
        collector.names = reader.names(evaluation.tail)
    remarks = evaluation(checkpoint)
    owners = reduction.cell_users(collector, cell, checkpoint)
    if isinstance(collector, OrderedCollector) and collector.unordered_ties.size:
        evaluation.add_in_order(
            reader.read_ties(cur, evaluation, collector.unordered_ties), collector
        )
        owners = reduction.cell_users(collector, cell, checkpoint)
    names = UserNames(cur, evaluation.tail.new_users, _CHEAPER)
    return _Counted(*np.unique_counts(owners), names, remarks)
