"""Checks the commands in the documentation: programs, options, paths and settings must exist."""

import ast
import importlib.util
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from typing import Any, cast

import click
import yaml

from config.settings import Settings, variable
from main import cli, create_app
from tests import runbooks
from tests.pages import ROOT, Block, parse_curl

_MAKEFILE = (ROOT / "Makefile").read_text()
_ASSIGNED = re.compile(r"([A-Z_]+)=.*")


def faults(block: Block) -> Iterator[str]:
    """Yield the faults of a block; a command that nothing here can check is a fault as well."""
    aliases: dict[str, list[str]] = {}
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
        for words in _commands(re.sub(r"(^|\s+)# .*$", "", line)):
            if words[0] == "alias":
                name, _, meaning = words[1].partition("=")
                aliases[name] = shlex.split(meaning)
            elif wrong := fault_of([*aliases.get(words[0], words[:1]), *words[1:]]):
                yield f"`{shlex.join(words)}`: {wrong}"


def _commands(line: str) -> Iterator[list[str]]:
    """The commands of a line, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word in ("|", "&&", ";"):
            yield words
            words = []
        elif word in ("<", ">", ">>"):
            next(lexer)
        else:
            words.append(word)
    if words:
        yield words


def fault_of(words: list[str]) -> str | None:
    """The fault of one command; None if there is none."""
    for start, check in _CHECKS.items():
        if words[: start.count(" ") + 1] == start.split():
            return check(words)
    return "nothing checks this command: run it in a test, or add a check to tests/doc_commands.py"


def is_a_test(name: str) -> bool:
    """Whether a test exists, such as `tests/unit/test_x.py::TestY::test_z`."""
    file, *names = name.split("::")
    path = ROOT / file
    nodes: list[ast.stmt] = ast.parse(path.read_text()).body if path.exists() else []
    for part in names:
        kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        matches = [node for node in nodes if isinstance(node, kinds) and node.name == part]
        if not matches:
            return False
        nodes = matches[0].body
    return bool(names) and names[-1].startswith("test_")


def _make(words: list[str]) -> str | None:
    """Targets and variables must exist in the Makefile."""
    for word in words[1:]:
        name = _ASSIGNED.fullmatch(word)
        if name and f"$({name[1]})" not in _MAKEFILE:
            return f"the Makefile has no {name[1]}"
        if not name and not re.search(rf"^{word}:", _MAKEFILE, re.MULTILINE):
            return f"the Makefile has no target {word}"
    return None


def _main(words: list[str]) -> str | None:
    """Parse a command of the service with click, without running it."""
    command: click.Command = cli
    context, rest = click.Context(cli), words[2:]
    try:
        while isinstance(command, click.Group):
            _, subcommand, rest = command.resolve_command(context, rest)
            assert subcommand
            command, context = subcommand, click.Context(subcommand, parent=context)
        command.parse_args(context, rest)
    except click.ClickException as exc:
        return exc.format_message()
    return None


def _compose(words: list[str]) -> str | None:
    """Services must exist in the compose file, and commands run in ours must be valid."""
    file = ROOT / "docker-compose.yml"
    if not file.exists():
        return "there is no docker-compose.yml"
    subcommand, *rest = _without_options(words[2:])
    named, inner = (rest[:1], rest[1:]) if subcommand in ("exec", "run") else (rest, [])
    unknown = {name.partition("=")[0] for name in named} - set(_services(file.read_text()))
    if unknown:
        return f"docker-compose.yml has no {sorted(unknown)}"
    if inner[:2] == ["python", "/app/main.py"] or (subcommand == "run" and inner):
        return _main(["python", "main.py", *inner[2 if inner[0] == "python" else 0 :]])
    return None


def _services(text: str) -> Iterable[str]:
    return cast(dict[str, Any], yaml.safe_load(text)["services"])


def _without_options(words: list[str]) -> list[str]:
    """The words without the options before a command in a container; `--scale` has services."""
    remaining, arguments = iter(words), list[str]()
    for word in remaining:
        if word in ("--workdir", "--volume", "--env", "--file"):
            next(remaining)
        elif not word.startswith("-"):
            arguments.append(word)
            if len(arguments) == 2 and arguments[0] in ("exec", "run"):
                return [*arguments, *remaining]
    return arguments


def _docker(words: list[str]) -> str | None:
    """The Dockerfile must exist, and variables passed to a container must be settings."""
    if not (ROOT / "Dockerfile").exists():
        return "there is no Dockerfile"
    return _exported(["", *(name for option, name in pairwise(words) if option == "--env")])


def _curl(words: list[str]) -> str | None:
    """A request whose answer is not compared: its path must exist."""
    path = parse_curl(shlex.join(words)).path.partition("?")[0]
    return None if path in create_app(Settings()).openapi()["paths"] else f"there is no {path}"


def _sourced(words: list[str]) -> str | None:
    """A file that the reader copied: its example must exist."""
    exists = (ROOT / f"{words[1]}.example").exists()
    return None if exists else f"there is no {words[1]}.example"


def _unchecked(words: list[str]) -> None:
    """Nothing in this command belongs to the project."""


def _files(words: list[str]) -> str | None:
    """All files must exist; a name without a directory is a file of the reader."""
    missing = [word for word in words if "/" in word and not [*ROOT.glob(word)]]
    return f"there is no {missing[0]}" if missing else None


def _as_in_operations(words: list[str]) -> str | None:
    """A command of docs/operations.md, where a test runs all of them."""
    lines = "\n".join(chain.from_iterable(runbooks.blocks().values())).splitlines()
    run = [shlex.split(line) for line in lines if line.startswith(f"{words[0]} ")]
    return None if words in run else "docs/operations.md has another one"


def _copied(words: list[str]) -> str | None:
    return None if (ROOT / words[1]).exists() else f"there is no {words[1]}"


def _exported(words: list[str]) -> str | None:
    names = {variable(field) for field in Settings.model_fields}
    unknown = {word.partition("=")[0] for word in words[1:]} - names
    return f"there is no setting {sorted(unknown)}" if unknown else None


def _module(words: list[str]) -> str | None:
    return None if importlib.util.find_spec(words[2]) else f"there is no module {words[2]}"


def _installed(words: list[str]) -> str | None:
    """Files that are installed for systemd or the shell must exist."""
    source, _ = (word for word in words[1:] if not word.startswith("-"))
    return None if (ROOT / source).is_file() else f"there is no {source}"


def _pip(words: list[str]) -> str | None:
    return None if (ROOT / words[-1]).exists() else f"there is no {words[-1]}"


def _systemctl(words: list[str]) -> str | None:
    units = {file.stem for file in (ROOT / "deploy" / "systemd").glob("*.service")}
    unknown = {word for word in words[2:] if not word.startswith("-")} - units
    return f"there is no unit {sorted(unknown)}" if unknown else None


def _analytics(words: list[str]) -> str | None:
    """The command `analytics`, which docs/deployment.md installs."""
    return _main(["python", "main.py", *words[1:]])


def _kubectl(words: list[str]) -> str | None:
    """Files and resources must exist in deploy/kubernetes, and commands in a pod must be valid."""
    if "--" in words:
        return _main(words[words.index("--") + 1 :])
    files = {after for option, after in pairwise(words) if option == "--filename"}
    texts = [file.read_text() for file in (ROOT / "deploy" / "kubernetes").glob("*.yaml")]
    resources = {word.partition("/")[2] for word in words if re.match("(job|deployment)/", word)}
    missing = [file for file in files - {"secret.yaml"} if not (ROOT / file).exists()]
    missing += [name for name in resources if not any(f"name: {name}\n" in text for text in texts)]
    return f"there is no {missing[0]}" if missing else None


_CHECKS: dict[str, Callable[[list[str]], str | None]] = {
    "make": _make,
    "python main.py": _main,
    ".venv/bin/python main.py": _main,
    "python /app/main.py": _main,
    "python -m": _module,
    "python3 -m venv": _unchecked,
    ".venv/bin/pip install": _pip,
    "analytics": _analytics,
    "install": _installed,
    "kubectl": _kubectl,
    "systemctl": _systemctl,
    "docker compose": _compose,
    "docker build": _docker,
    "docker run": _docker,
    "curl": _curl,
    ".": _sourced,
    "git pull": _unchecked,
    "cd /opt/analytics-service": _unchecked,
    "cp": _copied,
    "export": _exported,
    "pg_dump": _as_in_operations,
    "promtool": _files,
    "sh": _files,
    "zcat": _files,
}
