"""The questions, one module each: the question, and its answer."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from common.questions.base import Question

# The import of a module defines its subclasses of `Question`.
for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)


def questions_about_one_user() -> list[str]:
    """Return the names of the questions whose answers are about one user."""
    return sorted({question.name for question in all_questions() if question.concerns_one_user})


def all_questions(base: type[Question] = Question) -> Iterator[type[Question]]:
    """Yield all subclasses of `base`, direct and indirect."""
    for question in base.__subclasses__():
        yield question
        yield from all_questions(question)
