"""Settings: what is wrong is named, and nothing secret is shown."""

import os

import pytest

from config.settings import ENV_PREFIX, SettingsError, load_settings

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(ENV_PREFIX) or name in ("DATABASE_URL", "REDIS_URL"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ANALYTICS_PORT", "seventy"),
        ("ANALYTICS_PORT", "65536"),
        ("ANALYTICS_WORKERS", "0"),
        ("ANALYTICS_CACHE_ENABLED", "perhaps"),
        ("ANALYTICS_POOL_SIZE", "0"),
        ("ANALYTICS_REQUEST_TIMEOUT_S", "0"),
        ("ANALYTICS_REQUEST_TIMEOUT_S", "nan"),
        ("ANALYTICS_CACHE_TIMEOUT_S", "5"),
        ("ANALYTICS_LOG_LEVEL", "loud"),
        ("ANALYTICS_METRIC_EVENTS", "view,other"),
        ("ANALYTICS_METRIC_EVENTS", ",".join(map(str, range(51)))),
        ("DATABASE_URL", f"mysql://me:{SECRET}@db/analytics"),
        ("REDIS_URL", f"http://:{SECRET}@cache"),
    ],
)
def test_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"^{variable}: ") as refused:
        load_settings()
    assert SECRET not in str(refused.value)


def test_an_unknown_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYTICS_PROT", SECRET)
    with pytest.raises(SettingsError, match=r"^unknown setting ANALYTICS_PROT$"):
        load_settings()


def test_all_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYTICS_PORT", "x")
    monkeypatch.setenv("ANALYTICS_POOL_SIZE", "x")
    with pytest.raises(SettingsError, match=r"ANALYTICS_PORT: .*; ANALYTICS_POOL_SIZE: "):
        load_settings()


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:{SECRET}@db/analytics")
    monkeypatch.setenv("REDIS_URL", f"redis://:{SECRET}@cache")
    assert SECRET not in repr(load_settings())


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYTICS_PORT", "")
    assert load_settings().port == 8000


@pytest.mark.parametrize(
    ("given", "most"),
    [
        ({}, 6),
        ({"WORKERS": "4", "POOL_SIZE": "8"}, 24),
        ({"WORKERS": "1", "POOL_SIZE": "1"}, 1),
        ({"AT_ONCE_LIMIT": "0"}, 0),
        ({"AT_ONCE_LIMIT": "40"}, 40),
    ],
)
def test_a_key_may_ask_for_less_than_all_connections(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], most: int
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"{ENV_PREFIX}{name}", value)
    assert load_settings().max_concurrent_queries == most
