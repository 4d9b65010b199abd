"""The files that containers are made of: safe by themselves, and in step with the service."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml
from psycopg2.extensions import connection

from config.deprecated_settings import DEPRECATED_SETTINGS
from config.settings import Settings, variable
from tests.compose import (
    ROOT,
    SERVICES,
    TEXT,
    compose,
    fill,
    make_env_file,
    rendered_services,
    values,
)
from tests.contract.test_architecture import LAYERS

DOCKERFILE = (ROOT / "Dockerfile").read_text()
ONCE = {"roles", "migrate"}
NAMES = re.findall(r"^([A-Z_]+)=$", (ROOT / ".env.example").read_text(), re.MULTILINE)


def secrets(services: dict[str, dict[str, Any]]) -> dict[tuple[str, str], str]:
    """What the names of variables tell to be secret."""
    secret = re.compile(r"PASSWORD|TOKEN|KEY|AUTH|DATABASE_URL|REDIS_URL")
    return {
        (service, name): value
        for service, described in services.items()
        for name, value in (described.get("environment") or {}).items()
        if secret.search(name)
    }


def test_compose_takes_it_once_secrets_are_filled_in(tmp_path: Path) -> None:
    done = compose(make_env_file(tmp_path), "--quiet")
    assert (done.stdout, done.stderr) == ("", "")


def test_a_secret_that_is_missing_is_named(tmp_path: Path) -> None:
    assert "required variable" in compose(ROOT / ".env.example", "--quiet").stderr
    for name in NAMES:
        assert f"${{{name}:?}}" in TEXT
        assert not re.search(rf"\$\{{?{name}\b(?!:\?\}})", TEXT.replace("$$", "")), name


def test_no_secret_is_that_of_another_installation(tmp_path: Path) -> None:
    one, other = (
        secrets(rendered_services(make_env_file(tmp_path / name))) for name in ("one", "other")
    )
    assert one.keys() == other.keys()
    assert len(one) == 20
    assert [name for name in one if one[name] == other[name]] == []


def test_secrets_are_long_and_different_and_for_their_owner_alone(tmp_path: Path) -> None:
    file = make_env_file(tmp_path)
    secret_values = values(file)
    assert list(secret_values) == NAMES
    assert len(set(secret_values.values())) == len(NAMES)
    assert all(re.fullmatch("(ask_)?[0-9a-f]{64}", value) for value in secret_values.values())
    assert file.stat().st_mode & 0o777 == 0o600


def test_filling_in_again_changes_nothing_and_adds_what_is_new(tmp_path: Path) -> None:
    file = make_env_file(tmp_path)
    before = file.read_text()
    fill(tmp_path)
    assert file.read_text() == before
    file.write_text(before.replace(f"REDIS_PASSWORD={values(file)['REDIS_PASSWORD']}\n", ""))
    fill(tmp_path)
    assert len(values(file)["REDIS_PASSWORD"]) == 64
    assert sorted(values(file)) == sorted(NAMES)


def test_only_this_machine_can_come_in(tmp_path: Path) -> None:
    services = rendered_services(make_env_file(tmp_path))
    open_to = {
        (name, port["host_ip"], port["published"], port["target"])
        for name, described in services.items()
        for port in described.get("ports", [])
    }
    assert open_to == {
        ("analytics", "127.0.0.1", "8000", 8000),
        ("prometheus", "127.0.0.1", "9090", 9090),
        ("grafana", "127.0.0.1", "3000", 3000),
    }
    assert not any("network_mode" in described for described in services.values())


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_may_do_what_it_is_for(name: str) -> None:
    described = SERVICES[name]
    assert described["read_only"] is True
    assert described["cap_drop"] == ["ALL"]
    assert described["security_opt"] == ["no-new-privileges:true"]
    # Numbers, since a name is looked up in the image. Ours has a user of its own.
    assert "build" in described or re.fullmatch(r"[1-9]\d*:\d+", described["user"])
    assert {"mem_limit", "cpus", "pids_limit", "logging", "networks"} <= described.keys()
    assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & described.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_watched_or_ends(name: str) -> None:
    described = SERVICES[name]
    if name in ONCE:
        assert described["restart"] == "no"
        assert described["healthcheck"] == {"disable": True}
        return
    assert described["restart"] == "unless-stopped"
    assert described["healthcheck"]["test"][0] == "CMD"


def test_the_health_of_postgresql_is_asked_for_over_tcp() -> None:
    assert "--host=127.0.0.1" in SERVICES["postgres"]["healthcheck"]["test"]


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"[a-z/-]+:v?\d+(\.\d+)+(-[a-z]+)?(@sha256:[0-9a-f]{64})?", image)


def test_the_image_bears_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    ours = {name for name, described in SERVICES.items() if "build" in described}
    assert ours == {"analytics", "migrate"}
    assert {SERVICES[name]["image"] for name in ours} == {f"analytics-service:{version}"}
    assert f'org.opencontainers.image.version="{version}"' in DOCKERFILE
    page = (ROOT / "docs" / "containers.md").read_text()
    assert set(re.findall(r"analytics-service:([\d.]+)", page)) == {version}


def test_columns_that_were_read_are_on_disk() -> None:
    """A tmpfs would be part of the memory of the container."""
    service = SERVICES["analytics"]
    assert service["volumes"] == [f"columns:{service['environment']['TMPDIR']}"]


def test_each_setting_can_be_given_and_no_other() -> None:
    """Those of a container are fixed, and nothing is embedded in it."""
    fixed = {"ANALYTICS_HOST", "ANALYTICS_PORT", "ANALYTICS_DATA_DIR", "ANALYTICS_MIN_FREE_MB"}
    fixed |= {"ANALYTICS_FOLD_DATABASE_URL"}  # compose sets the new name itself
    command = "docker compose exec analytics python /app/main.py"
    own = {"ANALYTICS_METRICS_TOKEN": "METRICS_TOKEN"}
    passed = dict(SERVICES["analytics"]["environment"])
    del passed["TMPDIR"]
    names = {variable(field) for field in Settings.model_fields} | DEPRECATED_SETTINGS.keys()
    assert passed.keys() == names - fixed
    assert passed.pop("ANALYTICS_COMMAND") == command
    for name, value in passed.items():
        assert value is None or "PASSWORD:?}" in value or value == f"${{{own[name]}:?}}"


def test_only_one_service_has_the_password_of_the_superuser() -> None:
    having = {name for name, text in SERVICES.items() if "POSTGRES_PASSWORD" in str(text)}
    assert having == {"postgres", "roles"}


def test_the_dockerfile_is_clean() -> None:
    program = str(Path(sys.executable).with_name("hadolint"))
    done = subprocess.run(
        [program, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_a_user_of_its_own() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (.+)$", last, re.MULTILINE) == ["10001:10001"]
    assert "HEALTHCHECK" in last
    assert "curl" not in last


def test_the_image_holds_all_floors_and_little_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {line[1:].removesuffix(".py") for line in lines if line.startswith("!")}
    assert "*" in lines
    assert copied == {
        *LAYERS,
        "LICENSE",
        "containers/alive",
        "pyproject.toml",
        "requirements/image.txt",
    }


@pytest.mark.parametrize(("path", "alive"), [("/healthz", True), ("", False)])
def test_a_container_tells_whether_it_lives(
    shared_service: httpx.Client, path: str, *, alive: bool
) -> None:
    port = shared_service.base_url.port if path else 1
    done = subprocess.run(
        [sys.executable, str(ROOT / "containers" / "alive.py")],
        env={**os.environ, "ANALYTICS_PORT": str(port)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == alive
    assert done.stderr.count("\n") == (not alive)


def postgresql_settings() -> dict[str, str]:
    lines = (ROOT / "containers" / "postgresql.conf").read_text().splitlines()
    return dict(line.split(" = ", 1) for line in lines if line and not line.startswith("#"))


def test_postgresql_knows_its_settings(conn: connection) -> None:
    names = list(postgresql_settings())
    with conn.cursor() as cur:
        cur.execute("select from pg_settings where lower(name) = any(%s)", (names,))
        assert cur.rowcount == len(names) == 21


def test_postgresql_logs_no_statement() -> None:
    """They hold ids of users, and passwords of logins."""
    settings = postgresql_settings()
    assert settings["log_min_error_statement"] == "panic"
    assert settings["log_error_verbosity"] == "terse"
    prefixes = ("log_min_duration_", "log_statement", "log_parameter_")
    assert not [name for name in settings if name.startswith(prefixes)]


def test_the_cache_knows_its_settings(redis_url: str) -> None:
    lines = (ROOT / "containers" / "valkey.conf").read_text().splitlines()
    settings = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        supported = client.config_get("*")
    assert settings.keys() <= supported.keys()
    assert (settings["save"], settings["appendonly"]) == ('""', "no")
    assert settings["maxmemory-policy"] == "allkeys-lru"


def test_prometheus_asks_each_replica_with_the_token() -> None:
    config = yaml.safe_load((ROOT / "prometheus.yml").read_text())
    job = config["scrape_configs"][0]
    assert job["job_name"] == "analytics"
    (discovery,) = job["dns_sd_configs"]
    assert (discovery["names"], discovery["type"], discovery["port"]) == (["analytics"], "A", 8000)
    started = SERVICES["prometheus"]["command"][0]
    assert f"> {job['authorization']['credentials_file']}\n" in started
    assert config["rule_files"] == ["prometheus/rules/*.yml"]
    mounted = SERVICES["prometheus"]["volumes"]
    assert "./prometheus/rules:/etc/prometheus/prometheus/rules:ro" in mounted
