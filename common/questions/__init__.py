"""The questions, one module each: the question, and its answer."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from common.questions.base import Question


def _subclasses(base: Any) -> Iterator[type[Question]]:
    for subclass in base.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


# The import of a module defines its subclasses of `Question`.
for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)

QUESTIONS: tuple[type[Question], ...] = tuple(
    sorted(
        # A set: a question with several base classes is found once for each.
        {each for each in _subclasses(Question) if each.__module__ == f"{__name__}.{each.name}"},
        key=lambda question: question.name,
    )
)
"""All questions, by name: the classes that have the names of their modules."""


def questions_about_one_user() -> list[str]:
    """Return the names of the questions whose answers are about one user."""
    return [question.name for question in QUESTIONS if question.concerns_one_user]
