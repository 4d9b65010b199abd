"""Secrets of API keys: their form, and what is stored of them."""

import pytest

from services.api_key_secrets import digest_of, new_secret, parse_secret, secret_in

TEXT = "ask_" + "a" * 32


def test_only_digest_and_hint_of_a_secret_are_stored() -> None:
    secret = parse_secret(TEXT)
    assert secret is not None
    assert secret.hint == "ask_aaaa"
    assert secret.digest.hex() == (
        "41082227aa4129d8a434fb55274709716e2885ab2797fe8715d1bae0313f3f77"
    )


@pytest.mark.parametrize(
    "text", ["", TEXT[:-1], TEXT + " ", TEXT + "\n", "key_" + "a" * 32, "ask_" + "a" * 201]
)
def test_texts_of_another_form_are_no_secrets(text: str) -> None:
    assert parse_secret(text) is None


@pytest.mark.parametrize(
    ("authorization", "secret"),
    [
        ("Bearer a", "a"),
        ("bearer  a ", "a"),
        ("Basic YTo=", "a"),  # a:
        ("BASIC YTpiOmM=", "a"),  # a:b:c
        ("Basic YQ==", "a"),
        ("Basic a:", None),
        ("Basic /w==", None),
        ("Basic", ""),
        ("Digest a", None),
        ("a", None),
    ],
)
def test_the_secret_in_a_header(authorization: str, secret: str | None) -> None:
    assert secret_in(authorization) == secret


def test_a_new_secret_has_the_form_of_a_secret() -> None:
    secret = new_secret()
    assert parse_secret(secret.text) == secret
    assert secret.digest == digest_of(secret.text)


def test_new_secrets_differ() -> None:
    assert len({new_secret().text for _ in range(100)}) == 100
