"""Whether a command that a page shows can be what it says: who checks it, and what that finds."""

import ast
import importlib.util
import re
import shlex
from collections.abc import Callable, Iterator

import click
import yaml

from config.settings import Settings, variable
from main import cli
from tests.pages import ROOT, Block

_MAKEFILE = (ROOT / "Makefile").read_text()
_ASSIGNED = re.compile(r"([A-Z_]+)=.*")


def commands(block: Block) -> Iterator[str]:
    """Its lines, without comments; what goes on in the next line is one."""
    text = re.sub(r"\\\n\s*", "", block.text)
    for line in text.splitlines():
        if command := re.sub(r"(^|\s+)# .*$", "", line):
            yield command


def fault(command: str) -> str | None:
    """What is wrong with it, if anything is: a kind of command that nobody checks, too."""
    for part in command.split(" | "):
        words = shlex.split(part)
        checks = (check for start, check in _CHECKS.items() if part.startswith(f"{start} "))
        if (check := next(checks, None)) is None:
            return f"nobody checks `{part}`: run it in a test, or teach tests/shown.py to check it"
        if wrong := check(words):
            return f"`{part}`: {wrong}"
    return None


def is_a_test(name: str) -> bool:
    """Whether there is this one, such as `tests/unit/test_x.py::TestY::test_z`."""
    file, *names = name.split("::")
    path = ROOT / file
    found: list[ast.stmt] = ast.parse(path.read_text()).body if path.exists() else []
    for wanted in names:
        kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        there = [node for node in found if isinstance(node, kinds) and node.name == wanted]
        if not there:
            return False
        found = there[0].body
    return bool(names) and names[-1].startswith("test_")


def _make(words: list[str]) -> str | None:
    """Targets and variables of the Makefile."""
    for word in words[1:]:
        name = _ASSIGNED.fullmatch(word)
        if name and f"$({name[1]})" not in _MAKEFILE:
            return f"the Makefile has no {name[1]}"
        if not name and not re.search(rf"^{word}:", _MAKEFILE, re.MULTILINE):
            return f"the Makefile has no target {word}"
    return None


def _main(words: list[str]) -> str | None:
    """A command of the service with its options, as click reads them; nothing is done."""
    command: click.Command = cli
    context, rest = click.Context(cli), words[2:]
    try:
        while isinstance(command, click.Group):
            _, found, rest = command.resolve_command(context, rest)
            assert found
            command, context = found, click.Context(found, parent=context)
        command.parse_args(context, rest)
    except click.ClickException as wrong:
        return wrong.format_message()
    return None


def _compose(words: list[str]) -> str | None:
    """What stands after the subcommand and is no option is a service."""
    file = ROOT / "docker-compose.yml"
    if not file.exists():
        return "there is no docker-compose.yml"
    _, _, subcommand, *rest = [word for word in words if not word.startswith("-")]
    services = yaml.safe_load(file.read_text())["services"]
    named = rest[:1] if subcommand in ("exec", "run") else rest
    unknown = {name.partition("=")[0] for name in named} - set(services)
    return f"docker-compose.yml has no {sorted(unknown)}" if unknown else None


def _files(words: list[str]) -> str | None:
    """All are there; a name without a folder is one of the reader's."""
    missing = [word for word in words if "/" in word and not [*ROOT.glob(word)]]
    return f"there is no {missing[0]}" if missing else None


def _copied(words: list[str]) -> str | None:
    return None if (ROOT / words[1]).exists() else f"there is no {words[1]}"


def _exported(words: list[str]) -> str | None:
    names = {variable(field) for field in Settings.model_fields}
    unknown = {word.partition("=")[0] for word in words[1:]} - names
    return f"there is no setting {sorted(unknown)}" if unknown else None


def _module(words: list[str]) -> str | None:
    return None if importlib.util.find_spec(words[2]) else f"there is no module {words[2]}"


_CHECKS: dict[str, Callable[[list[str]], str | None]] = {
    "make": _make,
    "python main.py": _main,
    "python -m": _module,
    "docker compose": _compose,
    "cp": _copied,
    "export": _exported,
    "promtool": _files,
    "sh": _files,
    "zcat": _files,
}
