"""Ids of transactions whose events wait, against sets of single ids."""

from hypothesis import given
from hypothesis import strategies as st

from repo.rollups.waiting import NOT_SWEEPING, NOTHING_FOLDED, Snapshot, Swept, waiting

SWEPT = Swept("2026-01-01 00:00:00+00", "00000000-0000-0000-0000-00000000000a")


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    xmax = draw(st.integers(3, 40))
    open_ = sorted(draw(st.sets(st.integers(3, xmax - 1)))) if xmax > 3 else []
    xmin = min(open_, default=xmax)
    return Snapshot(f"{xmin}:{xmax}:{','.join(map(str, open_))}")


def seen(snapshot: Snapshot) -> set[int]:
    _, xmax, open_ = snapshot.text.split(":")
    return set(range(int(xmax))) - {int(xid) for xid in open_.split(",") if xid}


def listed(parts: dict[str, list[str]]) -> list[tuple[int, Swept]]:
    rows = zip(*parts.values(), strict=True)
    return [
        (xid, Swept(until, event_id))
        for first, end, until, event_id in rows
        for xid in range(int(first), int(end))
    ]


def test_the_snapshot_that_postgresql_shows() -> None:
    shown = Snapshot("10:20:10,14,15")
    assert (shown.xmax, shown.xip) == (20, [10, 14, 15])
    assert (Snapshot("3:3:").xmax, Snapshot("3:3:").xip) == (3, [])


def test_a_transaction_that_is_not_over_is_left_out() -> None:
    parts = waiting(Snapshot("7:30:7,21,22"), Snapshot("5:20:5,7"))
    assert parts["firsts"] == ["5", "20", "23"]
    assert parts["untils"] == ["6", "21", "30"]
    assert parts["swept_untils"] == ["-infinity"] * 3


@given(snapshots(), snapshots(), snapshots())
def test_each_id_that_is_seen_and_not_folded_once(
    now: Snapshot, folded: Snapshot, sweeping_to: Snapshot
) -> None:
    found = listed(waiting(now, folded, sweeping_to, SWEPT))
    assert len(found) == len(dict(found))
    assert set(dict(found)) == seen(now) - seen(folded)
    for xid, swept in found:
        assert swept == (SWEPT if xid in seen(sweeping_to) else NOT_SWEEPING)


@given(snapshots())
def test_before_the_first_fold_all_that_is_seen_waits(now: Snapshot) -> None:
    assert {xid for xid, _ in listed(waiting(now, NOTHING_FOLDED))} == seen(now) - {0, 1, 2}
