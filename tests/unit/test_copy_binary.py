"""PostgreSQL's binary COPY format, byte by byte."""

from utils.copy_binary import SIGNATURE, decode, encode

# The signature, flags and the length of the extension; a row of two fields; the end.
ENCODED = (
    b"PGCOPY\n\xff\r\n\0" + b"\0\0\0\0" + b"\0\0\0\0"
    b"\0\x02" + b"\0\0\0\x04\0\0\0\x07" + b"\0\0\0\x03abc"
    b"\xff\xff"
)  # fmt: skip


def test_rows_are_encoded_as_postgresql_documents() -> None:
    assert encode([(7, b"abc")], "ib") == ENCODED


def test_integers_of_8_bytes_have_their_length() -> None:
    assert encode([(7, b"")], "qb")[19:-2] == b"\0\x02\0\0\0\x08" + bytes(7) + b"\x07" + bytes(4)


def test_encoded_rows_are_decoded() -> None:
    assert list(decode(ENCODED, "ib")) == [(7, b"abc")]


def test_large_and_negative_integers_keep_their_value() -> None:
    rows = [(-1, 2**40, b""), (2**31 - 1, -(2**63), b"\0\xff")]
    assert list(decode(encode(rows, "iqb"), "iqb")) == rows


def test_no_rows_are_a_signature_and_an_end() -> None:
    assert encode([], "iqb") == SIGNATURE + b"\xff\xff"
    assert list(decode(SIGNATURE + b"\xff\xff", "iqb")) == []
