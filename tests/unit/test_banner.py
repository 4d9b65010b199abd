"""The addresses that `serve` prints."""

from typing import Any

import pytest
from pydantic import SecretStr

from commands._banner import print_banner
from config.settings import Settings


def banner(capsys: pytest.CaptureFixture[str], settings: dict[str, Any], **more: bool) -> list[str]:
    flags = {"needs_key": False, "is_unreachable": False, **more}
    print_banner(Settings(**settings), 8000, **flags)
    return capsys.readouterr().out.strip().splitlines()


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
    ],
)
def test_addresses_can_be_called(capsys: pytest.CaptureFixture[str], host: str, base: str) -> None:
    lines = banner(capsys, {"host": host})
    assert [line.split()[-1] for line in (lines[0], lines[1], lines[3])] == [
        f"{base}/",
        f"{base}/docs",
        f"{base}/metrics",
    ]
    assert lines[2].endswith(f"curl '{base}/analytics/event-counts?last=7d&interval=day'")


def test_a_key_is_shown_where_one_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(banner(capsys, {}, needs_key=True))
    assert "keys create me --scope read)" in text
    assert 'curl -H "Authorization: Bearer $KEY"' in text
    assert "set ANALYTICS_METRICS_TOKEN, and ask with it http://127.0.0.1:8000/metrics" in text


def test_the_token_of_metrics_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = banner(capsys, {"metrics_token": SecretStr("the-secret-of-metrics")}, needs_key=True)
    assert 'Bearer $ANALYTICS_METRICS_TOKEN" http' in lines[-1]
    assert "the-secret" not in "".join(lines)


def test_an_unreachable_postgresql_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    last = banner(capsys, {}, is_unreachable=True)[-1]
    assert last.strip().startswith("PostgreSQL is unreachable  ")
    assert last.endswith("http://127.0.0.1:8000/readyz")
