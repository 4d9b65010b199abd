"""Which values columns must contain."""

import numpy as np
import pytest

from repo.verify.column_state import (
    ColumnState,
    Instants,
    RegisteredPath,
    instants_of,
    slots_of,
)
from repo.verify.snapshot import Span

PATHS = {1: RegisteredPath(("plan",), None), 2: RegisteredPath(("new",), 500)}
ALWAYS, NEVER = -(2**63) + 1, 2**63 - 1


def state(columns_from: int | None = None, *, left_out: bool = False) -> ColumnState:
    return ColumnState(1, {}, columns_from, 0, left_out, PATHS, np.zeros(0, np.int64), False)


@pytest.mark.parametrize(
    ("columns_from", "plan", "new"),
    [(None, ALWAYS, 500), (300, 299, 500), (700, 699, 699)],
)
def test_values_of_early_events_may_be_missing(
    columns_from: int | None, plan: int, new: int
) -> None:
    assert state(columns_from).compared_after() == {("plan",): plan, ("new",): new}


def test_values_of_other_paths_are_missing_if_some_were_left_out() -> None:
    assert state().unregistered_compared_after(("other",)) == ALWAYS
    assert state(left_out=True).unregistered_compared_after(("other",)) == NEVER
    assert state().unregistered_compared_after(("k" * 2_000,)) == NEVER


def test_slots_are_ranges_of_time_since_2000() -> None:
    span = instants_of(Span(1_051_872, 1_051_874))
    assert span == Instants(0, 1_800_000_000)
    assert slots_of(np.array([-1, 0, 899_999_999, 900_000_000])).tolist() == [
        1_051_871,
        1_051_872,
        1_051_872,
        1_051_873,
    ]
    assert Instants(-5, 10**18).within_calendar() == Instants(0, 4 * 10**15)
