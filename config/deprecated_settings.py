"""Environment variables of earlier releases that are accepted for one more release."""

from collections.abc import Mapping

# The field of `Settings` that each deprecated variable sets.
DEPRECATED_SETTINGS: Mapping[str, str] = {
    "ANALYTICS_FOLDER": "rollup_worker",
    "ANALYTICS_FOLD_DATABASE_URL": "rollup_database_url",
    "ANALYTICS_AT_ONCE_LIMIT": "concurrency_limit",
    "ANALYTICS_CACHE_OPEN_S": "cache_ttl_open_s",
    "ANALYTICS_CACHE_CLOSED_S": "cache_ttl_closed_s",
}


def deprecated_values(environment: Mapping[str, str]) -> dict[str, str]:
    """Values of deprecated variables by field; an empty variable counts as unset."""
    return {
        field: environment[name]
        for name, field in DEPRECATED_SETTINGS.items()
        if environment.get(name)
    }


def deprecated_variable(field: str) -> str:
    """The deprecated variable of a field that has one. Raises: KeyError."""
    return {field: name for name, field in DEPRECATED_SETTINGS.items()}[field]
