"""A release states its licence, and its image the version."""

import hashlib
import re
import tomllib

import pytest

from config.settings import Settings
from main import create_app
from tests.pages import ROOT
from utils.version import version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the licence's text as the Apache Software Foundation publishes it."""


def label(name: str) -> str:
    (value,) = re.findall(rf'org\.opencontainers\.image\.{name}="([^"]*)"', DOCKERFILE)
    return str(value)


def test_the_image_states_the_version() -> None:
    assert label("version") == version()


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_bytes()
    assert hashlib.sha256(text).hexdigest() == APACHE_2
    assert (PROJECT["license"], PROJECT["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert label("licenses") == "Apache-2.0"
    assert create_app(Settings()).openapi()["info"]["license"]["identifier"] == "Apache-2.0"


@pytest.mark.parametrize("page", ["README.md", "docs/licences.md"])
def test_a_page_names_the_licence(page: str) -> None:
    text = (ROOT / page).read_text()
    assert "Apache License, Version 2.0" in text
    assert re.search(r"\]\((\.\./)?LICENSE\)", text)
