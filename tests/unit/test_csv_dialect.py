"""What is guessed of a CSV file."""

import pytest

from services.ingest.csv_dialect import COMMA, Dialect, guess_dialect, guess_encoding


def guessed(text: str, encoding: str = "utf-8") -> Dialect:
    head = text.encode(encoding)
    return guess_dialect(head, guess_encoding(head))


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("a,b\n1,2\n", COMMA),
        ('"a;x;y","b"\n1,2\n', COMMA),
        ("a;b\n1,5;2\n", Dialect(delimiter=";")),
        ("a\tb\n1\t2\n", Dialect(delimiter="\t")),
        ("a|b\n1|2\n", Dialect(delimiter="|")),
        ("sep=;\r\na;b\n", Dialect(delimiter=";", skipped_lines=1)),
        ("a, b, c\n1, 2, 3\n", Dialect(skips_spaces=True)),
        ("a,b\n'x,y',2\n1,2\n", Dialect(quote="'")),
        ("a,b\nit's,2\n1,2\n", COMMA),
        ("a\n1\n", COMMA),
        ("", COMMA),
    ],
)
def test_delimiter_and_quotes_are_those_of_the_first_lines(text: str, dialect: Dialect) -> None:
    assert guessed(text) == dialect


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        (b"plain", "utf-8-sig"),
        ("Käufe".encode(), "utf-8-sig"),
        ("Käufe".encode()[:2], "utf-8-sig"),
        ("Käufe".encode("cp1252"), "cp1252"),
        ("Käufe".encode("cp1252") + "Käufe".encode(), "utf-8-sig"),
        (b"a,\xff,b", "utf-8-sig"),
        ("Käufe".encode("utf-16"), "utf-16"),
    ],
)
def test_the_encoding_is_that_of_the_first_bytes(head: bytes, encoding: str) -> None:
    assert guess_encoding(head) == encoding


def test_what_is_unusual_has_a_description() -> None:
    assert COMMA.description == ""
    assert (
        guessed("Käufe;b\nx;y\n", "cp1252").description == "cp1252, columns separated by semicolons"
    )
