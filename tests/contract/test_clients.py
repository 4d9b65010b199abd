"""The URLs on docs/clients.md have answers, with the columns that its programs use."""

import csv
import re

import httpx
import pytest

from tests.pages import BASE, DOCS, blocks

BLOCKS = [block for block in blocks(DOCS / "clients.md") if f"{BASE}/analytics/" in block.text]
COLUMNS = re.compile(r'days\$(\w+)|"(start|end|events|users)"')


@pytest.mark.parametrize("block", BLOCKS, ids=[block.language for block in BLOCKS])
def test_each_program_asks_a_question(block: object, history: httpx.Client) -> None:
    text = getattr(block, "text")  # noqa: B009
    (url,) = re.findall(rf'"{BASE}(/analytics/[^"]+)"', text)
    answer = history.get(url)
    assert answer.status_code == 200, answer.text
    used = {name for names in COLUMNS.findall(text) for name in names if name}
    if "format=csv" in url:
        assert used <= set(next(csv.reader(answer.text.splitlines())))
    else:
        assert "rows" in answer.json()["data"]


def test_there_are_programs() -> None:
    assert [block.language for block in BLOCKS] == ["python", "r", "js", "m"]
