"""CONTRIBUTING lists the files that a question touches: the existing questions show which."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.questions import QUESTIONS
from common.questions.base import Question
from tests.api.questions import PATHS
from tests.pages import ROOT

GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
SECTION = GUIDE.partition("## Add a question")[2].partition("\n## ")[0]
LISTED = re.findall(r"^\| `([\w/]+\.\w+)` \|", SECTION, re.MULTILINE)
FOLDERS = ("commands", "routes", "services", "repo", "common", "config", "utils")
PRODUCT = [
    file.relative_to(ROOT).as_posix()
    for folder in FOLDERS
    for file in (ROOT / folder).rglob("*")
    if file.suffix in {".py", ".sql", ".lua", ".html"} and "migrations" not in file.parts
]
# Shows the address of one question as an example; any other would do.
WITH_EXAMPLES = {"commands/_banner.py"}
# Have a table or a field that is called like the question.
OTHER_MEANINGS = {
    "users": {
        "repo/cohorts/collector.py",
        "repo/queries/retention.py",
        "repo/queries/user_page.py",
        "routes/users.py",
    },
    "user_profile": {"routes/users.py"},
    "property_values": {
        "common/property_values.py",
        "repo/verify/catalogue.py",
        "repo/verify/column_events.py",
    },
    "event_names": {
        "common/questions/base.py",
        "repo/queries/base.py",
        "repo/rollups/metrics_outbox.py",
        "repo/verify/dictionaries_and_state.py",
    },
}

# Words with another meaning in the product: what drops old events, the folders of that, and the
# properties of events.
HOMONYMS = {"retention", "lifecycle", "properties"}


@pytest.fixture(params=QUESTIONS, ids=lambda question: question.name)
def question(request: pytest.FixtureRequest) -> type[Question]:
    param: type[Question] = request.param
    return param


def listed(question: type[Question]) -> set[str]:
    """The files that the guide lists, if this question were the new one."""
    return {file.replace("lapsed_users", question.name) for file in LISTED}


def is_named(question: type[Question], text: str) -> bool:
    name, path = question.name, re.escape(PATHS[question.name])
    forms = (name, question.__name__, name.replace("_", "-"), f"get_{name}", path)
    return re.search(rf"(?<!\w)({'|'.join(forms)})(?![a-z])", text) is not None


def is_used(question: type[Question], text: str) -> bool:
    """Whether code uses a question, whose name alone may be a common word, such as users."""
    name, path = question.name, re.escape(PATHS[question.name])
    modules = rf"questions\.{name}|queries\.{name}"
    forms = rf"{modules}|{question.__name__}|get_{name}|{path}|-- name: {name}"
    return text == name or re.search(rf"(?<!\w)({forms})(?![a-z/])", text) is not None


def texts(file: Path) -> Iterator[str]:
    """Imports, attributes, and what strings have besides prose, in which names are also words."""
    if file.suffix != ".py":
        yield without_prose(file.read_text())
        return
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield f"{node.module} {' '.join(alias.name for alias in node.names)}"
        elif isinstance(node, ast.Attribute):
            yield node.attr if node.attr.startswith("get_") else ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield without_prose(node.value)


def without_prose(text: str) -> str:
    """The names of statements and the paths in a text; all of a text that is one name."""
    if "_" in text and text.isidentifier():
        return text
    return " ".join(re.findall(r"(?m)^-- name: \w+$|/analytics/\S+", text))


def files_of(question: type[Question]) -> set[str]:
    """The files of the product that define a question, or name it."""
    if question.name in HOMONYMS:
        return {file for file in PRODUCT if is_imported(question, ROOT / file)}
    return {
        file
        for file in PRODUCT
        if Path(file).stem == question.name
        or any(is_used(question, text) for text in texts(ROOT / file))
    }


def is_imported(question: type[Question], file: Path) -> bool:
    """Whether a file is, imports or calls a module of the question."""
    name = question.name
    modules = (f"common.questions.{name}", f"repo.queries.{name}")
    forms = rf"{'|'.join(map(re.escape, modules))}|get_{name}\b|{re.escape(PATHS[name])}"
    is_module = (
        file.with_suffix("").as_posix().endswith(tuple(m.replace(".", "/") for m in modules))
    )
    return is_module or any(re.search(forms, text) for text in texts(file))


def test_the_product_knows_a_question_only_where_the_guide_says(
    question: type[Question],
) -> None:
    of_product = listed(question).intersection(PRODUCT)
    assert len(of_product) == 4
    statements = f"repo/sql/{question.name}.sql"  # of a question that no source answers
    meanings = OTHER_MEANINGS.get(question.name, set())
    others = files_of(question) - WITH_EXAMPLES - {statements} - meanings
    assert others == of_product, "derive it from QUESTIONS"


def test_tests_and_docs_have_each_question(question: type[Question]) -> None:
    for file in listed(question).difference(PRODUCT):
        assert is_named(question, (ROOT / file).read_text()), f"{file} leaves {question.name} out"


def test_examples_are_still_there() -> None:
    assert set[str]().union(*(files_of(question) for question in QUESTIONS)) >= WITH_EXAMPLES
