"""Bounds of time on machines that have other work as well."""

import os

import pytest

from tests import wait_until


@pytest.mark.parametrize(
    ("load", "factor"), [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (4.0, 3.0), (8.0, 7.0)]
)
def test_bounds_are_longer_where_more_wants_to_run_than_can(
    load: float, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert wait_until._factor_of(load) == factor


def test_what_never_happens_is_given_up() -> None:
    with pytest.raises(AssertionError, match="it did not happen within"):
        wait_until.wait_until(lambda: False, timeout_s=0.01)
