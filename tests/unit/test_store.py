"""What a store must define."""

from typing import Any

import pytest

from repo.rollups.store import Store

METHODS = ["apply", "seal", "erase", "drop_before", "rebuild", "maintain"]


def store_with(*methods: str) -> type[Store]:
    members: dict[str, Any] = {method: lambda *_: None for method in methods}
    return type("Made", (Store,), members)


def test_a_store_defines_all_methods() -> None:
    assert sorted(METHODS) == sorted(Store.__abstractmethods__)
    assert store_with(*METHODS)([])


@pytest.mark.parametrize("missing", METHODS)
def test_a_store_without_a_method_cannot_be_used(missing: str) -> None:
    incomplete = store_with(*(method for method in METHODS if method != missing))
    with pytest.raises(TypeError, match=missing):
        incomplete([])
