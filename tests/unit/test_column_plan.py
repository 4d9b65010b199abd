"""Plans to read columns: all that is read, and which columns of which chunks."""

from collections.abc import Sequence
from datetime import datetime

from common.selections import parse_user_conditions
from common.user_criteria import UserCriterion
from repo.columns.chunk_table import ChunkRow
from repo.columns.codec import field_key, property_key
from repo.engine.column_plan import ColumnPlan
from repo.engine.scan import Scan
from repo.engine.timeline import microseconds
from tests.chunks import parsed
from utils.time.calendar import Range


def day(number: int) -> datetime:
    return datetime.fromisoformat(f"2025-03-{number:02}T00:00:00+00:00")


def chunk(chunk_id: int, first: int, last: int) -> ChunkRow:
    """A chunk of ten events from one day to another."""
    edges = microseconds(day(first)), microseconds(day(last))
    return ChunkRow(chunk_id, 1, 0, False, True, 10, 0, *edges)


def plan_of(
    scan: Scan, chunks: Sequence[ChunkRow], of_users: Sequence[ColumnPlan] = ()
) -> ColumnPlan:
    return ColumnPlan(
        source="columns",
        scan=scan,
        cost=None,
        allowed_events=0,
        state=None,
        chunks=chunks,
        paths={("plan",): 7},
        of_users=of_users,
    )


def test_chunks_that_a_range_cuts_need_their_times() -> None:
    scan = Scan(
        question="users",
        ranges=[Range(day(1), day(10))],
        where=parsed("plan:pro other:x @event:view"),
    )
    plan = plan_of(scan, [chunk(1, 2, 5), chunk(2, 8, 12)])
    shared = {field_key("user"), field_key("name"), property_key(7, "text")}
    whole, cut = [(ids, set(keys)) for ids, keys in plan.needed_columns()]
    assert whole == ([1], shared)
    assert cut == ([2], {field_key("time"), *shared})


def test_each_criterion_has_a_scan() -> None:
    (condition,) = parse_user_conditions(["view"])
    criterion = UserCriterion("did", condition, Range(day(5), day(20)))
    scan = Scan(question="users", ranges=[Range(day(1), day(10))], users=(criterion,))
    (of_users,) = scan.of_users
    assert of_users.ranges == [Range(day(5), day(20))]
    assert of_users.all_fields == {"user", "name"}
    assert scan.all_fields == {"user"}
    assert of_users.parameter == "did"


def test_a_plan_is_about_all_times_and_chunks_that_choose_users() -> None:
    chunks = [chunk(1, 2, 5), chunk(2, 8, 12), chunk(3, 15, 16)]
    of_users = plan_of(Scan(question="users", ranges=[Range(day(8), day(20))]), chunks[1:])
    ranges = [Range(day(1), day(4)), Range(day(4), day(9))]
    plan = plan_of(Scan(question="users", ranges=ranges), chunks[:2], of_users=[of_users])
    assert plan.ranges == [Range(day(1), day(20))]
    assert (plan.chunk_count, plan.row_count) == (3, 20)
    assert list(plan.scan_plans) == [of_users, plan]
