"""The text of each error is one line, as clients see it."""

from collections.abc import Iterator

import pytest

from common import protocol_errors
from common.errors import AnalyticsError


def all_of(error: type[AnalyticsError]) -> Iterator[type[AnalyticsError]]:
    yield error
    for below in error.__subclasses__():
        yield from all_of(below)


ERRORS = list(all_of(AnalyticsError))


def test_all_error_classes_are_tested() -> None:
    assert {AnalyticsError, protocol_errors.AmbiguousKey, protocol_errors.SlowHead} <= set(ERRORS)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_the_usual_text_is_one_line(error: type[AnalyticsError]) -> None:
    assert error.__doc__, "its docstring is what clients are told"
    assert "\n" not in error.__doc__
    assert error.__doc__ == error.__doc__.strip()
