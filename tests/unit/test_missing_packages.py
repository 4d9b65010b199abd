"""The message for packages that are missing from this Python."""

import sys

import pytest

from utils.missing_packages import missing_package_message


def test_the_message_names_the_package_and_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py", "load", "my events.csv"])
    message = missing_package_message(ImportError("no", name="orjson"))
    assert message.startswith(sys.executable)
    assert "lacks the package orjson" in message
    assert message.endswith("`.venv/bin/python main.py load 'my events.csv'`")
