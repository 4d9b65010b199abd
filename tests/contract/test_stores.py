"""No store is forgotten: each defines every operation, and has a verifier that shares no code."""

from pathlib import Path

import pytest

from repo.rollups.store import Store
from repo.rollups.stores import FROM_EVENTS, FROM_ROLLUPS
from repo.verify.verifiers import INDEPENDENT, RECOUNTED
from tests.contract.test_architecture import MODULES, reached

STORES = [*FROM_EVENTS, *FROM_ROLLUPS]
WRITERS_AND_READERS = ("repo/rollups", "repo/columns", "repo/engine", "repo/queries")


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.__name__)
@pytest.mark.parametrize("method", sorted(Store.__abstractmethods__))
def test_a_store_defines_each_method_itself(store: type[Store], method: str) -> None:
    """An inherited method would be one that nobody has thought about for this store."""
    assert method in vars(store), f"define {store.__name__}.{method}, even if it does nothing"


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.__name__)
def test_a_store_has_a_verifier(store: type[Store]) -> None:
    verifiers = RECOUNTED.keys() | INDEPENDENT.keys()
    assert store.name in verifiers, f"add a verifier to repo/verify/verifiers.py: {store.name}"


def test_a_verifier_has_a_store() -> None:
    assert RECOUNTED.keys() | INDEPENDENT.keys() == {store.name for store in STORES}
    assert not RECOUNTED.keys() & INDEPENDENT.keys()


def test_what_outlives_dropped_events_is_verified_before_they_are_dropped() -> None:
    assert {store.name for store in FROM_EVENTS} <= RECOUNTED.keys()


def test_a_name_means_one_store() -> None:
    assert (
        len({store.name for store in STORES})
        == len({store.unit for store in STORES})
        == len(STORES)
    )


@pytest.mark.parametrize("room", [room for room in MODULES if room.match("repo/verify/*")], ids=str)
def test_verification_shares_no_code_with_what_it_verifies(room: Path) -> None:
    shared = {path for path in reached(room) if path.as_posix().startswith(WRITERS_AND_READERS)}
    assert shared == set()
