"""Ids of transactions whose events wait, against sets of single ids."""

from hypothesis import given
from hypothesis import strategies as st

from repo.engine.tail import NO_BACKFILL, NOTHING_FOLDED, BackfillCursor, Snapshot, tail_ranges

SWEPT = BackfillCursor("2026-01-01 00:00:00+00", "00000000-0000-0000-0000-00000000000a")


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    xmax = draw(st.integers(3, 40))
    open_ = sorted(draw(st.sets(st.integers(3, xmax - 1)))) if xmax > 3 else []
    xmin = min(open_, default=xmax)
    return Snapshot(f"{xmin}:{xmax}:{','.join(map(str, open_))}")


def seen(snapshot: Snapshot) -> set[int]:
    _, xmax, open_ = snapshot.text.split(":")
    return set(range(int(xmax))) - {int(xid) for xid in open_.split(",") if xid}


def listed(parts: dict[str, list[str]]) -> list[tuple[int, BackfillCursor]]:
    rows = zip(*parts.values(), strict=True)
    return [
        (xid, BackfillCursor(until, event_id))
        for first, end, until, event_id in rows
        for xid in range(int(first), int(end))
    ]


def test_the_snapshot_that_postgresql_shows() -> None:
    snapshot = Snapshot("10:20:10,14,15")
    assert (snapshot.xmax, snapshot.xip) == (20, [10, 14, 15])
    assert (Snapshot("3:3:").xmax, Snapshot("3:3:").xip) == (3, [])


def test_a_transaction_that_is_not_over_is_left_out() -> None:
    parts = tail_ranges(Snapshot("7:30:7,21,22"), Snapshot("5:20:5,7"))
    assert parts["first_xids"] == ["5", "20", "23"]
    assert parts["end_xids"] == ["6", "21", "30"]
    assert parts["swept_untils"] == ["-infinity"] * 3


@given(snapshots(), snapshots(), snapshots())
def test_each_id_that_is_seen_and_not_folded_once(
    now: Snapshot, folded: Snapshot, sweeping_to: Snapshot
) -> None:
    ids = listed(tail_ranges(now, folded, sweeping_to, SWEPT))
    assert len(ids) == len(dict(ids))
    assert set(dict(ids)) == seen(now) - seen(folded)
    for xid, swept in ids:
        assert swept == (SWEPT if xid in seen(sweeping_to) else NO_BACKFILL)


@given(snapshots())
def test_before_the_first_fold_all_that_is_seen_waits(now: Snapshot) -> None:
    assert {xid for xid, _ in listed(tail_ranges(now, NOTHING_FOLDED))} == seen(now) - {0, 1, 2}
