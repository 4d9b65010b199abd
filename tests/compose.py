"""docker-compose.yml with secrets of its own, as compose itself understands it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]


def make_env_file(folder: Path) -> Path:
    """A .env as `containers/fill-env` makes it."""
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / ".env.example", folder)
    shutil.copytree(ROOT / "containers", folder / "containers", dirs_exist_ok=True)
    fill(folder)
    return folder / ".env"


def fill(folder: Path) -> None:
    subprocess.run(["sh", str(folder / "containers" / "fill-env")], check=True)


def values(file: Path) -> dict[str, str]:
    """What a .env sets."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def compose(file: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """`config` with this .env. The program that pip installs exits with 0 whatever it says."""
    program = str(Path(sys.executable).with_name("docker-compose"))
    files = ["--project-directory", str(ROOT), "--file", str(ROOT / "docker-compose.yml")]
    return subprocess.run(
        [program, *files, "--env-file", str(file), "config", *options],
        env={"PATH": os.environ["PATH"], "HOME": str(file.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def rendered_services(file: Path) -> dict[str, dict[str, Any]]:
    """The services with this .env."""
    result = compose(file, "--format", "json")
    assert result.stderr == ""
    services: dict[str, dict[str, Any]] = json.loads(result.stdout)["services"]
    return services
