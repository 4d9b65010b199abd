"""Ids that are derived from rows."""

from uuid import UUID, uuid5

from services.ingest.mapping.ids import NAMESPACE, RowNumbers, derived_id


def test_a_derived_id_is_a_uuid_of_version_5() -> None:
    assert derived_id(b"a") == str(uuid5(UUID(bytes=NAMESPACE), "a"))
    assert derived_id(b"a") == "ae9290c8-156c-52f4-9e83-3de19068f7e5"


def test_equal_rows_are_numbered_in_the_order_of_the_file() -> None:
    first, second = RowNumbers(), RowNumbers()
    ids = [first.id_of(row) for row in (b"a", b"b", b"a", b"a")]
    assert len(set(ids)) == 4
    assert [second.id_of(row) for row in (b"b", b"a", b"a", b"a")] == [ids[1], *ids[:1], *ids[2:]]


def test_rows_with_one_bit_in_common_have_ids_of_their_own() -> None:
    numbers = RowNumbers()
    same_bit = [bytes(8) + bytes([n]) for n in range(3)]
    assert [numbers.number(row) for row in (*same_bit, *same_bit)] == [0, 1, 1, 1, 2, 2]
