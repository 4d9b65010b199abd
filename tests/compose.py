"""docker-compose.yml with generated secrets, as `docker compose` interprets it."""

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
    """Create a .env with `containers/fill-env`."""
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / ".env.example", folder)
    shutil.copytree(ROOT / "containers", folder / "containers", dirs_exist_ok=True)
    fill(folder)
    return folder / ".env"


def fill(folder: Path) -> None:
    subprocess.run(["sh", str(folder / "containers" / "fill-env")], check=True)


def values(file: Path) -> dict[str, str]:
    """The variables of a .env file."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def compose(file: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run `config` with this .env. The program installed by pip always exits with 0."""
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
    """The services of the rendered file, with this .env."""
    result = compose(file, "--format", "json")
    assert result.stderr == ""
    services: dict[str, dict[str, Any]] = json.loads(result.stdout)["services"]
    return services
