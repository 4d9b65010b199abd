"""One test for many small cases, where a test for each would take longer than its check."""

from collections.abc import Callable, Iterable
from typing import Any


def for_each(cases: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Run a check for each case (a tuple holds several arguments); the test lists all failures."""
    every_case = list(cases)

    def decorate(check: Callable[..., None]) -> Callable[[], None]:
        def test() -> None:
            assert every_case, "there are no cases"
            failures = [failure for case in every_case if (failure := _failure(check, case))]
            assert not failures, "\n\n".join(failures)

        # Not `functools.wraps`: pytest would look for fixtures with the names of the arguments.
        test.__doc__ = check.__doc__
        return test

    return decorate


def _failure(check: Callable[..., None], case: Any) -> str | None:
    try:
        check(*case) if isinstance(case, tuple) else check(case)
    except AssertionError as exc:
        return f"{str(case)[:200]}: {exc}"
    return None
