"""The settings of the service. No other module reads the environment."""

import os
import sys
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from config.deprecated_settings import (
    DEPRECATED_SETTINGS,
    deprecated_values,
    deprecated_variable,
)
from config.fair_queue import max_per_caller
from config.trace_settings import TraceSettings
from utils.memory import memory_bytes
from utils.paths import default_data_dir, is_loopback, is_terminal
from utils.redis_urls import redis_url_fault
from utils.session_options import schema_fault
from utils.time.zones import zone, zone_names

ENV_PREFIX = "ANALYTICS_"
_MAX_METRIC_EVENTS = 50  # each one is a time series in Prometheus


class SettingsError(Exception):
    """A setting is unknown or invalid; the message names it, but does not show its value."""


class Settings(TraceSettings):
    """The service's settings, read from the environment; an empty variable counts as unset."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="PostgreSQL, as the owner of the tables; unset: the embedded server",
    )
    redis_url: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",
        description="Redis or Valkey; unset: the embedded server",
    )
    query_database_url: SecretStr | None = Field(
        None, description="PostgreSQL for questions: a read-only role, or a replica"
    )
    ingest_database_url: SecretStr | None = Field(
        None, description="PostgreSQL for storing events: a role that can do nothing else"
    )
    rollup_database_url: SecretStr | None = Field(
        None, description="PostgreSQL for the rollup worker: a role that can only fold"
    )
    database_schema: str = Field(
        "public",
        validation_alias="ANALYTICS_SCHEMA",
        description="schema of the tables, created by `migrate`; needed if other tables have their "
        "names, such as `events` or `users`",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir, description="the data directory of the embedded servers"
    )
    min_free_mb: int = Field(
        500,
        ge=0,
        le=1_000_000,
        description="megabytes of free space on the disk of the embedded servers, below which no "
        "events are stored, and below half of which nothing is written; 0: not checked",
    )
    max_database_gb: float = Field(
        0,
        ge=0,
        le=1_000_000,
        description="size of the database in gigabytes from which on no events are stored; "
        "0: unlimited",
    )
    host: str = Field(
        "127.0.0.1", description="address to listen on; any but a loopback address requires keys"
    )
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0: any free port")
    time_zones: str = Field(
        "UTC",
        description="IANA time zones with precomputed days, separated by commas; questions in "
        "other zones are answered exactly but more slowly",
    )
    column_paths: int = Field(
        2_000,
        ge=1,
        le=100_000,
        description="properties (paths) that filters can name; values of further ones are left out "
        "of columns, and a filter that names one is a 422",
    )
    rollup_worker: bool = Field(
        True,
        description="`serve` runs the rollup worker; false: another `serve` or `rollup` does",
    )
    workers: int = Field(2, ge=1, le=64, description="worker processes that handle requests")
    connection_limit: int = Field(
        1000,
        ge=8,
        le=100_000,
        description="concurrent client connections per worker process; fewer if the limit of open "
        "files is low",
    )
    pool_size: int = Field(
        4,
        ge=1,
        le=100,
        description="PostgreSQL connections per worker process for questions; a few more are for "
        "background work",
    )
    ingest_pool_size: int = Field(
        3,
        ge=1,
        le=100,
        description="PostgreSQL connections per worker process for storing events, opened on "
        "demand",
    )
    pool_waiters: int = Field(
        1000, ge=0, le=10_000, description="requests that may wait for a connection, per pool"
    )
    connection_lifetime_s: int = Field(
        1800, ge=1, le=86400, description="seconds after which a connection is replaced"
    )
    acquire_timeout_s: float = Field(
        1.0, gt=0, le=60, description="seconds that a request waits for a connection"
    )
    request_timeout_s: float = Field(
        10.0, gt=0, le=300, description="seconds that a request may take, including its SQL"
    )
    erase_timeout_s: float = Field(
        300.0, gt=0, le=3600, description="seconds that erasing a user over HTTP may take"
    )
    cache_enabled: bool = Field(
        True, description="false: every answer is computed, and none is cached"
    )
    cache_timeout_s: float = Field(
        0.1, gt=0, le=0.12, description="seconds that a Redis command may take"
    )
    cache_ttl_open_s: int = Field(
        2,
        ge=0,
        le=3600,
        description="seconds for which an answer is cached whose range is still open; 0: not at "
        "all",
    )
    cache_ttl_closed_s: int = Field(
        3600,
        ge=0,
        le=86400,
        description="seconds for which an answer is cached whose range is over, unless late events "
        "change it; 0: not at all",
    )
    cache_stale_s: int = Field(
        3600,
        ge=0,
        le=86400,
        description="seconds for which an expired answer is kept, to be served while PostgreSQL "
        "is unavailable",
    )
    column_cache_mb: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="megabytes of columns that are kept ready for filters, in files in the "
        "temporary directory that worker processes share; unset: a quarter of the memory; 0: none",
    )
    rate_limit: int = Field(
        100, ge=0, le=100_000, description="requests per second of a key; 0: unlimited"
    )
    concurrency_limit: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="questions of a key that are computed concurrently; unset: three quarters of "
        "the connections of all workers, 6 by default; 0: unlimited",
    )
    cors_origins: str = Field(
        "",
        description="origins (CORS) whose pages may send requests, separated by commas; unset: "
        "none",
    )
    browser_events: bool = Field(
        False,
        description="true: web pages may send events to `/events/browser` and `/v1`, with a key "
        "that is limited to origins",
    )
    metrics_token: SecretStr | None = Field(
        None, description="bearer token for `/metrics`, which requires it once a key was created"
    )
    metric_events: str = Field(
        "",
        description="event names that `/metrics` counts separately, at most 50, separated by "
        "commas; all others are counted as `other`",
    )
    command: str = Field(
        "",
        description="how the commands are called, for messages that say what to run; unset: as "
        "the current process was called",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level of log lines that are written"
    )
    log_format: Literal["json", "text"] = Field(
        default_factory=lambda: "text" if is_terminal(sys.stderr) else "json",
        description="format of log lines, `json` or `text`",
    )

    @field_validator(
        "database_url", "query_database_url", "ingest_database_url", "rollup_database_url"
    )
    @classmethod
    def _is_postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql://")
        return url

    @field_validator("database_schema")
    @classmethod
    def _is_schema(cls, name: str) -> str:
        if fault := schema_fault(name):
            raise ValueError(fault)
        return name

    @field_validator("time_zones")
    @classmethod
    def _are_zones(cls, names: str) -> str:
        if unknown := set(_split(names)) - zone_names():
            # The message shows no value of a variable.
            raise ValueError(
                f"must be IANA time zones such as Europe/Berlin; {len(unknown)} of them unknown"
            )
        return names

    @field_validator("metric_events")
    @classmethod
    def _are_few(cls, names: str) -> str:
        if len(_split(names)) > _MAX_METRIC_EVENTS:
            raise ValueError(f"must be at most {_MAX_METRIC_EVENTS} event names")
        if "other" in _split(names):
            raise ValueError("must not contain other, the name for all that are not listed")
        return names

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url and (fault := redis_url_fault(url.get_secret_value())):
            raise ValueError(fault)
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        deprecated = InitSettingsSource(settings_cls, init_kwargs=deprecated_values(os.environ))
        return init_settings, env_settings, deprecated

    @property
    def is_loopback(self) -> bool:
        """Whether the service is only reachable from this machine."""
        return is_loopback(self.host)

    @property
    def origins(self) -> list[str]:
        """The list of `cors_origins`."""
        return _split(self.cors_origins)

    @property
    def metric_names(self) -> list[str]:
        """The list of `metric_events`."""
        return _split(self.metric_events)

    @property
    def max_concurrent_queries(self) -> int:
        """The concurrency limit of a key, set or by default; 0: unlimited."""
        if self.concurrency_limit is None:
            return self.workers * max_per_caller(self.pool_size)
        return self.concurrency_limit

    @property
    def column_cache_bytes(self) -> int:
        """The size of the cache of columns, set or by default."""
        if self.column_cache_mb is None:
            return memory_bytes() // 4
        return self.column_cache_mb * 2**20

    @property
    def zones(self) -> list[ZoneInfo]:
        """The time zones of `time_zones`."""
        return [zone(name) for name in _split(self.time_zones)]


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def variable(field: str) -> str:
    """The environment variable of a field."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else ENV_PREFIX + field.upper()


def load_settings() -> Settings:
    """The settings in the environment. Raises: SettingsError."""
    _refuse_unknown()
    try:
        settings = Settings()
    except ValidationError as exc:
        raise SettingsError("; ".join(map(_sentence, exc.errors()))) from None
    _refuse_conflicts(settings)
    return settings


def deprecation_warnings() -> list[str]:
    """A line for each deprecated variable that is set, with the name that replaces it."""
    return [
        f"{deprecated_variable(field)} is deprecated and will be refused by the next release: "
        f"use {variable(field)}"
        for field in deprecated_values(os.environ)
    ]


def is_debugging() -> bool:
    """Whether the log level is `debug`, which makes commands print tracebacks."""
    # Reads the environment itself, since the settings may be invalid.
    return os.environ.get(variable("log_level"), "").lower() == "debug"


def _refuse_unknown() -> None:
    variables = {variable(field) for field in Settings.model_fields} | DEPRECATED_SETTINGS.keys()
    unknown = [name for name in os.environ if name.startswith(ENV_PREFIX) and name not in variables]
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(sorted(unknown))}")


def _refuse_conflicts(settings: Settings) -> None:
    """Check that no deprecated variable differs from its new one. Raises: SettingsError."""
    for field, value in deprecated_values(os.environ).items():
        if not _has_value(settings, field, value):
            raise SettingsError(
                f"{deprecated_variable(field)} is the deprecated name of {variable(field)}, and "
                f"their values differ: remove {deprecated_variable(field)}"
            )


def _has_value(settings: Settings, field: str, text: str) -> bool:
    """Whether the text stands for the field's value: `0` and `false` are equal."""
    try:
        parsed = Settings(**{field: text})  # type: ignore[arg-type]
    except ValidationError:
        return False
    return bool(getattr(parsed, field) == getattr(settings, field))


def _sentence(error: object) -> str:
    assert isinstance(error, dict)
    field = str(error["loc"][0])
    name = _variable_in_use(field) if field in Settings.model_fields else field
    return f"{name}: {error['msg'].removeprefix('Value error, ')}"


def _variable_in_use(field: str) -> str:
    name = variable(field)
    is_deprecated = field in deprecated_values(os.environ) and not os.environ.get(name)
    return deprecated_variable(field) if is_deprecated else name
