"""The curl lines of the README and their answers: `python -m tests.readme URL` asks them all."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx

README = Path(__file__).parents[1] / "README.md"
BASE = "http://127.0.0.1:8000"

_EXAMPLE = re.compile(r"^curl -s '([^']+)'\n```\n```\w+\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
_SENT = re.compile(
    r"^curl -s '([^']+)' -H 'Content-Type: (\S+)' -d '(.+)'\n```\n```json\n(.+)$", re.MULTILINE
)
# What is another with every request.
_VARYING = ("computed_at", "request_id", "source")


class Example(NamedTuple):
    path: str
    answer: str


def examples() -> Iterator[Example]:
    for url, answer in _EXAMPLE.findall(README.read_text()):
        yield Example(url.removeprefix(BASE), answer)


def steady(text: str) -> Any:
    """An answer without what varies; lines of CSV as they are."""
    if not text.startswith("{"):
        return text.split()
    answer = json.loads(text)
    for part in (answer, answer.get("meta", {})):
        for name in _VARYING:
            part.pop(name, None)
    return answer


def check(client: httpx.Client) -> int:
    """How many examples there are. Raises: AssertionError."""
    found = list(examples())
    for example in found:
        text = client.get(example.path).text
        assert steady(text) == steady(example.answer), f"{example.path} gives {text}"
    return len(found)


def send(client: httpx.Client) -> None:
    """Send what the README sends. Raises: AssertionError."""
    ((url, media_type, body, answer),) = _SENT.findall(README.read_text())
    headers = {"Content-Type": media_type}
    text = client.post(url.removeprefix(BASE), content=body, headers=headers).text
    assert steady(text) == steady(answer), f"{body} gives {text}"


if __name__ == "__main__":
    with httpx.Client(base_url=sys.argv[1]) as client:
        send(client)
        sys.stdout.write(f"{check(client)} answers are as the README says\n")
