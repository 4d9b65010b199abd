"""docs/security.md names all ten risks, and for each a test that there is."""

import re

import pytest

from tests.doc_commands import is_a_test
from tests.for_each import for_each
from tests.pages import DOCS

TEXT = (DOCS / "security.md").read_text()
PROOF = re.compile(r"`(tests/[\w/]+\.py::[\w:]+)`")
# As the list of 2023 has them.
RISKS = [
    "Broken object level authorization",
    "Broken authentication",
    "Broken object property level authorization",
    "Unrestricted resource consumption",
    "Broken function level authorization",
    "Unrestricted access to sensitive business flows",
    "Server side request forgery",
    "Security misconfiguration",
    "Improper inventory management",
    "Unsafe consumption of APIs",
]


@pytest.mark.parametrize(("number", "risk"), list(enumerate(RISKS, 1)))
def test_each_risk_is_told_with_its_proof(number: int, risk: str) -> None:
    parts = re.split(r"^#+ ", TEXT, flags=re.MULTILINE)
    (part,) = [part for part in parts if part.startswith(f"API{number}: {risk}\n")]
    assert PROOF.search(part)


@for_each(sorted(set(PROOF.findall(TEXT))))
def test_each_proof_is_a_test(proof: str) -> None:
    assert is_a_test(proof)


@pytest.mark.parametrize(
    "name",
    [
        "tests/contract/test_security.py::test_nothing",
        "tests/contract/test_nothing.py::test_each_proof_is_a_test",
        "tests/contract/test_security.py::RISKS",
        "tests/api/test_keys.py::test_a_burst_over_the_limit_is_refused",
        "tests/api/test_keys.py::TestLimits",
    ],
)
def test_what_is_no_test_is_no_proof(name: str) -> None:
    assert not is_a_test(name)
