"""What is derived from all questions there are."""

from collections.abc import Iterator

import common.questions  # noqa: F401  (subclasses are known once they are imported)
from common.base_questions import Question


def questions_about_one_user() -> list[str]:
    """The names of the questions whose answers tell of one user."""
    return sorted({question.name for question in all_questions() if question.concerns_one_user})


def all_questions(base: type[Question] = Question) -> Iterator[type[Question]]:
    """Every class of a question, however it is derived."""
    for question in base.__subclasses__():
        yield question
        yield from all_questions(question)
