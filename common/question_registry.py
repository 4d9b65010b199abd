"""The registry of questions, derived from the classes."""

from collections.abc import Iterator

import common.questions  # noqa: F401  (the import defines the subclasses)
from common.base_questions import Question


def questions_about_one_user() -> list[str]:
    """Return the names of the questions whose answers are about one user."""
    return sorted({question.name for question in all_questions() if question.concerns_one_user})


def all_questions(base: type[Question] = Question) -> Iterator[type[Question]]:
    """Yield all subclasses of `base`, direct and indirect."""
    for question in base.__subclasses__():
        yield question
        yield from all_questions(question)
