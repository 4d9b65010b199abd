"""Reads the commands in the documentation and the answers shown below them.

`python -m tests.pages URL` checks each curl command of the README against a running service.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import httpx

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "CHANGELOG"))]
PAGES += sorted(DOCS.rglob("*.md"))
BASE = "http://127.0.0.1:8000"

_PART = re.compile(r"^#+ (.+)$")
_FENCE = re.compile(r"^```(\w*)$")
_CURL = re.compile(r"(?:(?P<given>.*) \| )?(?P<curl>curl .*?)(?: \| (?P<shown>(?:grep|head) .*))?")

# Fields that differ between requests, or between services.
_VARYING = {
    "chunks",
    "column_bytes",
    "column_rows",
    "complete_until",
    "computed_at",
    "counted_at",
    "request_id",
    "source",
    "erasure_id",
    "erased_at",
    "salt",
}
_VARYING_HEADERS = {
    "age",
    "content-length",
    "date",
    "ratelimit",
    "ratelimit-policy",
    "server-timing",
    "x-cache",
    "x-request-id",
}


class Block(NamedTuple):
    """A fenced block of a page, and the heading above it."""

    heading: str
    language: str
    text: str
    first: int
    """The number of its first line, from 0."""
    end: int
    """The number of the line with its closing fence."""


class Example(NamedTuple):
    """A curl command, and the answer shown directly below it."""

    request: Block
    answer: Block

    @property
    def heading(self) -> str:
        return self.request.heading


class Curl(NamedTuple):
    """A request, parsed from the options of curl."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    shows_headers: bool


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    heading, fence_start = "", None
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines):
        if fence_start is None and (part := _PART.match(line)):
            heading = part[1]
        elif fence_start is None and (fence := _FENCE.match(line)):
            fence_start = (fence[1], number + 1)
        elif fence_start and line == "```":
            language, first = fence_start
            yield Block(heading, language, "\n".join(lines[first:number]), first, number)
            fence_start = None
    assert fence_start is None, f"a block of {name_of(page)} has no end"


def anchors(page: Path) -> set[str]:
    """The anchors of all headings of a page, as GitHub generates them."""
    fenced = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", fenced, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def examples(page: Path) -> Iterator[Example]:
    for block, below in pairwise(blocks(page)):
        if is_request(block) and below.first == block.end + 2 and below.language != "sh":
            yield Example(block, below)


def is_request(block: Block) -> bool:
    return block.language == "sh" and _CURL.fullmatch(_on_one_line(block.text)) is not None


def ask(client: httpx.Client, command: str) -> str:
    """The output of a curl command; pipes before and after it are run by the shell."""
    match = _CURL.fullmatch(_on_one_line(command))
    assert match, command
    stdin = _piped(match["given"], b"") if match["given"] else b""
    printed = _perform(client, parse_curl(match["curl"], stdin))
    output = _piped(match["shown"], printed) if match["shown"] else printed
    return output.decode().rstrip("\n")


def _on_one_line(command: str) -> str:
    return re.sub(r"\\\n\s*", "", command)


def _piped(command: str, stdin: bytes) -> bytes:
    return subprocess.run(["sh", "-c", command], input=stdin, capture_output=True).stdout


def parse_curl(line: str, stdin: bytes = b"") -> Curl:
    """Parse a curl command. Raises: AssertionError for an unknown option."""
    words = iter(shlex.split(line)[1:])
    method, url, body, shows_headers = "", "", None, False
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    for word in words:
        if word in ("-s", "-si"):
            shows_headers = word == "-si"
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-X":
            method = next(words)
        elif word in ("-d", "--data-binary"):
            text = next(words)
            body = stdin if text == "@-" else text.encode()
        else:
            assert word.startswith(BASE), f"{word} is not an option that is known here"
            url = word
    method = method or ("GET" if body is None else "POST")
    return Curl(method, url.removeprefix(BASE), headers, body, shows_headers)


def _perform(client: httpx.Client, curl: Curl) -> bytes:
    request = client.build_request(curl.method, curl.path, headers=curl.headers, content=curl.body)
    answer = client.send(request)
    if not curl.shows_headers:
        return answer.content
    head = [f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}".encode()]
    head += [name + b": " + value for name, value in answer.headers.raw]
    return b"\n".join([*head, b"", answer.content])


def normalized(text: str) -> Any:
    """An answer without the fields and headers that vary."""
    if text.startswith("HTTP/1.1 "):
        head, _, body = text.partition("\n\n")
        status, *headers = head.splitlines()
        steady_headers = [
            line for line in headers if line.partition(":")[0] not in _VARYING_HEADERS
        ]
        return status, sorted(steady_headers), normalized(body)
    return [_without_varying(line) for line in text.splitlines()]


def _without_varying(line: str) -> Any:
    if not line.startswith("{"):
        return line
    answer = json.loads(line)
    meta = answer.get("meta") or {}
    if "complete_until" in meta and meta["complete_until"] == meta.get("computed_at"):
        del meta["complete_until"]
    for part in (answer, answer.get("meta"), answer.get("data")):
        for name in _VARYING & part.keys() if isinstance(part, dict) else ():
            del part[name]
    return answer


def check(client: httpx.Client, example: Example) -> None:
    """Compare the answer with the page. Raises: AssertionError if they differ."""
    printed = ask(client, example.request.text)
    assert normalized(printed) == normalized(example.answer.text), (
        f"{example.request.text}\n{printed}"
    )


def write(page: Path, printed: dict[Block, str]) -> None:
    """Replace the answers that have changed; the blocks may have moved since they were read."""
    lines = page.read_text().splitlines()
    printed_by_request = {(asked.heading, asked.text): text for asked, text in printed.items()}
    for request, answer in reversed(list(examples(page))):
        text = printed_by_request.get((request.heading, request.text))
        if text is not None and normalized(text) != normalized(answer.text):
            lines[answer.first : answer.end] = text.splitlines()
    page.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    with httpx.Client(base_url=sys.argv[1]) as newcomer:
        asked = list(examples(README))
        for each in asked:
            check(newcomer, each)
        sys.stdout.write(f"{len(asked)} answers match the README\n")
