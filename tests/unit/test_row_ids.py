"""Ids that are derived from rows."""

from uuid import UUID, uuid5

from services.ingest.mapping.ids import NAMESPACE, RowNumbers, derived_id


def test_a_derived_id_is_a_uuid_of_version_5() -> None:
    assert derived_id(b"a") == str(uuid5(UUID(bytes=NAMESPACE), "a"))
    assert derived_id(b"a") == "ae9290c8-156c-52f4-9e83-3de19068f7e5"


def test_equal_rows_are_numbered_in_the_order_of_the_file() -> None:
    first, second = RowNumbers(), RowNumbers()
    ids = first.ids_of([b"a", b"b", b"a", b"a"])
    assert len(set(ids)) == 4
    assert [*second.ids_of([b"b", b"a"]), *second.ids_of([b"a", b"a"])] == [
        ids[1],
        ids[0],
        *ids[2:],
    ]


def test_other_rows_have_no_influence_on_an_id() -> None:
    """A log that was rotated, or an export in another order, has the same ids."""
    rows = [b"row %d" % n for n in range(100_000)]
    numbers, reversed_numbers = RowNumbers(), RowNumbers()
    ids = numbers.ids_of(rows)
    assert len(set(ids)) == len(rows)
    assert reversed_numbers.ids_of(reversed(rows)) == ids[::-1]
    assert numbers.ids_of([rows[7]]) == reversed_numbers.ids_of([rows[7]]) != [ids[7]]


def test_rows_of_one_slot_have_numbers_of_their_own() -> None:
    numbers = RowNumbers()
    rows = [bytes([n]) + bytes(7) for n in (1, 2, 3)]
    assert numbers.numbers([*rows, *rows, rows[0], bytes(8)]) == [
        *(0, 0, 0),
        *(1, 1, 1),
        *(2, 0),
    ]


def test_an_id_is_the_same_in_all_versions() -> None:
    """Else files that an earlier version has loaded would be stored a second time."""
    assert RowNumbers().ids_of([b'"view"{"a":"1"}'] * 2) == [
        "1d993bf6-25aa-5010-b651-7158ec9663e0",
        "7afafd99-e610-5ae7-978b-e8557d4d225d",
    ]
