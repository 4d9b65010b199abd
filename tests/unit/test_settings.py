"""Settings: what is wrong is named, and nothing secret is shown."""

import os

import pytest
from pydantic import SecretStr

from config.settings import ENV_PREFIX, SettingsError, deprecation_warnings, load_settings

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
        ("ANALYTICS_SCHEMA", '"analytics"'),
        ("ANALYTICS_SCHEMA", "pg_catalog"),
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
    ("old", "text", "field", "value"),
    [
        ("ANALYTICS_FOLDER", "false", "rollup_worker", False),
        ("ANALYTICS_AT_ONCE_LIMIT", "3", "concurrency_limit", 3),
        ("ANALYTICS_CACHE_OPEN_S", "7", "cache_ttl_open_s", 7),
        ("ANALYTICS_CACHE_CLOSED_S", "9", "cache_ttl_closed_s", 9),
        (
            "ANALYTICS_FOLD_DATABASE_URL",
            "postgresql://db/x",
            "rollup_database_url",
            SecretStr("postgresql://db/x"),
        ),
    ],
)
def test_a_deprecated_name_sets_the_field_and_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, old: str, text: str, field: str, value: object
) -> None:
    monkeypatch.setenv(old, text)
    assert getattr(load_settings(), field) == value
    new = f"ANALYTICS_{field.upper()}"
    assert deprecation_warnings() == [
        f"{old} is deprecated and will be refused by the next release: use {new}"
    ]


def test_there_is_no_warning_without_deprecated_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYTICS_ROLLUP_WORKER", "false")
    monkeypatch.setenv("ANALYTICS_FOLDER", "")
    assert load_settings().rollup_worker is False
    assert deprecation_warnings() == []


@pytest.mark.parametrize(("old", "new"), [("false", "0"), ("1", "true")])
def test_both_names_may_have_equal_values(
    monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    monkeypatch.setenv("ANALYTICS_FOLDER", old)
    monkeypatch.setenv("ANALYTICS_ROLLUP_WORKER", new)
    assert load_settings().rollup_worker is (new == "true")


@pytest.mark.parametrize(
    ("old", "new", "values"),
    [
        ("ANALYTICS_FOLDER", "ANALYTICS_ROLLUP_WORKER", ("false", "true")),
        ("ANALYTICS_AT_ONCE_LIMIT", "ANALYTICS_CONCURRENCY_LIMIT", ("many", "5")),
        (
            "ANALYTICS_FOLD_DATABASE_URL",
            "ANALYTICS_ROLLUP_DATABASE_URL",
            (f"postgresql://me:{SECRET}@db/x", f"postgresql://me:{SECRET}@db/y"),
        ),
    ],
)
def test_both_names_with_different_values_are_refused(
    monkeypatch: pytest.MonkeyPatch, old: str, new: str, values: tuple[str, str]
) -> None:
    monkeypatch.setenv(old, values[0])
    monkeypatch.setenv(new, values[1])
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value) == (
        f"{old} is the deprecated name of {new}, and their values differ: remove {old}"
    )


def test_a_bad_value_of_a_deprecated_name_is_reported_under_that_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANALYTICS_CACHE_OPEN_S", "-1")
    with pytest.raises(SettingsError, match=r"^ANALYTICS_CACHE_OPEN_S: "):
        load_settings()


@pytest.mark.parametrize(
    ("given", "most"),
    [
        ({}, 6),
        ({"WORKERS": "4", "POOL_SIZE": "8"}, 24),
        ({"WORKERS": "1", "POOL_SIZE": "1"}, 1),
        ({"CONCURRENCY_LIMIT": "0"}, 0),
        ({"CONCURRENCY_LIMIT": "40"}, 40),
    ],
)
def test_a_key_may_ask_for_less_than_all_connections(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], most: int
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"{ENV_PREFIX}{name}", value)
    assert load_settings().max_concurrent_queries == most
