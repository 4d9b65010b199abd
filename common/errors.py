"""The errors that callers see. The default text of each is its docstring."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic_core import PydanticCustomError

from config.database import DatabaseError, DatabaseUnavailable, DeadlineExceeded, PoolBusy

_REFUSED = "refused:"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one parameter."""

    parameter: str
    message: str


class AnalyticsError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"
    retry_after_s: ClassVar[int | None] = None

    def __init__(self, detail: str | None = None, *, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail or self.__doc__)
        self.faults = list(faults)


class InvalidParameter(AnalyticsError):
    """A parameter is missing, unknown or out of bounds; `errors` tells which."""

    status = 422
    kind = "invalid-parameter"
    title = "Invalid parameter"


class InvalidCursor(AnalyticsError):
    """The cursor is not one that this question, with these parameters, gave."""

    status = 400
    kind = "invalid-cursor"
    title = "Invalid cursor"

    def __init__(self) -> None:
        message = "use next_cursor or previous_cursor of an answer, with the same parameters"
        super().__init__(faults=[Fault("cursor", message)])


class Busy(AnalyticsError):
    """Too many questions at once; try again shortly."""

    status = 503
    kind = "busy"
    title = "Busy"
    retry_after_s = 1


class Unavailable(AnalyticsError):
    """The database cannot be reached at the moment; try again shortly."""

    status = 503
    kind = "unavailable"
    title = "Database unavailable"
    retry_after_s = 2


class TooSlow(AnalyticsError):
    """The answer was not ready in time; ask about a shorter range."""

    status = 504
    kind = "too-slow"
    title = "Deadline exceeded"


_TRANSLATED: dict[type[DatabaseError], type[AnalyticsError]] = {
    PoolBusy: Busy,
    DeadlineExceeded: TooSlow,
    DatabaseUnavailable: Unavailable,
}


def translate(error: DatabaseError) -> AnalyticsError:
    """The error of ours for one of the pool's."""
    return _TRANSLATED[type(error)]()


def refuse(parameter: str, message: str) -> PydanticCustomError:
    """An error for a validator to raise that stands by the named parameter."""
    return PydanticCustomError(_REFUSED + parameter, message)


def refused_parameter(kind: str) -> str | None:
    """The parameter that `refuse` named, from the type of the error."""
    return kind.removeprefix(_REFUSED) if kind.startswith(_REFUSED) else None
