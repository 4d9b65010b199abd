"""The files of deploy/ fit the service: names, ports, paths and settings are those of the code.

What systemd itself says of the units is checked by `make test-deployment`.
"""

import re
import shlex
import subprocess
from itertools import chain
from typing import Any

import pytest
import yaml

from commands._server import STOP_TIMEOUT_S
from commands._worker import _HANGS_AFTER_S
from config.settings import Settings, load_settings, variable
from main import create_app
from tests.doc_commands import fault_of
from tests.pages import ROOT
from utils.version import version

SYSTEMD = ROOT / "deploy" / "systemd"
KUBERNETES = ROOT / "deploy" / "kubernetes"
STOPPED_WITHIN_S = STOP_TIMEOUT_S + 3
SETTINGS = {variable(field) for field in Settings.model_fields}
PATHS = create_app(Settings()).openapi()["paths"]

Unit = dict[str, dict[str, list[str]]]
Manifest = dict[str, Any]


def unit(name: str) -> Unit:
    """The sections of a unit; each directive has a list, since it may stand several times."""
    sections: Unit = {}
    for line in (SYSTEMD / name).read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            section.setdefault(key, []).append(value)
    return sections


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def assigned(text: str) -> dict[str, str]:
    """The variables of an environment file, and those in its comments as well."""
    return dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", text, re.MULTILINE))


SERVICE, ROLLUP = (unit(f"{name}.service")["Service"] for name in ("analytics", "analytics-rollup"))
ENVIRONMENT = (SYSTEMD / "environment.example").read_text()
WRAPPER = (SYSTEMD / "analytics").read_text()


class TestSystemd:
    @pytest.mark.parametrize("service", [SERVICE, ROLLUP], ids=["serve", "rollup"])
    def test_a_unit_runs_a_command_of_the_service(self, service: dict[str, list[str]]) -> None:
        (command,) = service["ExecStart"]
        python, program, *rest = shlex.split(command)
        assert python == "/opt/analytics-service/.venv/bin/python"
        assert program == "/opt/analytics-service/main.py"
        assert fault_of(["python", "main.py", *rest]) is None

    def test_the_units_are_hardened_alike(self) -> None:
        texts = [
            (SYSTEMD / f"{name}.service").read_text() for name in ("analytics", "analytics-rollup")
        ]
        one, other = (text.partition("# Hardening")[2].partition("[Install]")[0] for text in texts)
        assert one == other
        assert one.count("=") >= 30

    @pytest.mark.parametrize(
        ("directive", "value"),
        [
            ("DynamicUser", "yes"),
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("ProtectHome", "yes"),
            ("CapabilityBoundingSet", ""),
            ("MemoryDenyWriteExecute", "yes"),
        ],
    )
    def test_a_unit_may_do_nothing_else(self, directive: str, value: str) -> None:
        assert SERVICE[directive] == [value]

    def test_the_whole_of_proc_stays_visible(self) -> None:
        """`/metrics` has no `process_*` without /proc/stat."""
        assert "ProcSubset" not in SERVICE

    def test_systemd_waits_for_requests_to_end(self) -> None:
        """The supervisor stops its workers by itself, and nothing is killed before it is done."""
        assert SERVICE["KillMode"] == ["mixed"]
        assert seconds(SERVICE["TimeoutStopSec"][0]) > STOPPED_WITHIN_S

    def test_a_worker_that_was_killed_for_its_memory_does_not_stop_the_service(self) -> None:
        assert SERVICE["OOMPolicy"] == ["continue"]

    @pytest.mark.parametrize("service", [SERVICE, ROLLUP], ids=["serve", "rollup"])
    def test_a_unit_is_started_again_and_has_limits(self, service: dict[str, list[str]]) -> None:
        assert service["Restart"] == ["on-failure"]
        assert {"MemoryMax", "TasksMax", "LimitNOFILE"} <= service.keys()

    def test_there_are_files_for_all_connections(self) -> None:
        assert int(SERVICE["LimitNOFILE"][0]) > 4 * Settings().connection_limit

    def test_what_units_and_commands_read_is_one_file(self) -> None:
        (file,) = SERVICE["EnvironmentFile"]
        assert ROLLUP["EnvironmentFile"] == [file]
        assert f"--property=EnvironmentFile={file} " in WRAPPER
        assert ENVIRONMENT.startswith(f"# {file}, ")

    def test_the_environment_holds_settings_and_no_secrets(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        named = assigned(ENVIRONMENT)
        assert named.keys() <= SETTINGS
        secret = {name for name in named if re.search("URL|TOKEN", name)}
        assert {name for name, value in named.items() if "REPLACE" in value} == secret
        for name, value in named.items():
            monkeypatch.setenv(name, value)
        assert load_settings().metrics_token

    def test_commands_run_as_the_units_do(self) -> None:
        for line in ("DynamicUser=yes", "User=analytics", "UMask=0077", "CapabilityBoundingSet="):
            assert f"--property={line}" in WRAPPER
            directive, value = line.split("=")
            assert SERVICE[directive] == [value]
        assert '/opt/analytics-service/main.py "$@"' in WRAPPER
        subprocess.run(["sh", "-n", SYSTEMD / "analytics"], check=True)


def manifests(file: str) -> list[Manifest]:
    return list(yaml.safe_load_all((KUBERNETES / file).read_text()))


FILES = sorted(file.name for file in KUBERNETES.glob("*.yaml"))
ALL = [(file, manifest) for file in FILES for manifest in manifests(file)]
NAMES = [f"{file}:{manifest['kind']}" for file, manifest in ALL]
WORKLOADS = {
    manifest["metadata"]["name"]: manifest
    for _, manifest in ALL
    if manifest["kind"] in ("Deployment", "Job")
}


def of_kind(kind: str) -> list[Manifest]:
    return [manifest for _, manifest in ALL if manifest["kind"] == kind]


def pod(workload: Manifest) -> Manifest:
    found: Manifest = workload["spec"]["template"]["spec"]
    return found


def container(workload: Manifest) -> Manifest:
    (found,) = pod(workload)["containers"]
    assert isinstance(found, dict)
    return found


def values() -> dict[str, str]:
    """All that the service's pods get from the ConfigMap and the Secret."""
    (config,), (secret, _) = of_kind("ConfigMap"), of_kind("Secret")
    return {**config["data"], **secret["stringData"]}


SERVING = container(WORKLOADS["analytics"])


class TestKubernetes:
    def test_kubernetes_takes_all(self) -> None:
        import kubernetes_validate  # takes more than a second, for few tests

        for release in ("1.30", kubernetes_validate.latest_version()):
            for _, manifest in ALL:
                kubernetes_validate.validate(manifest, release, strict=True)

    def test_a_wrong_field_is_found(self) -> None:
        import kubernetes_validate

        manifest = {**of_kind("Service")[0], "spec": {"ports": [{"prot": 80}]}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(manifest, "1.30", strict=True)

    def test_all_is_in_one_namespace(self) -> None:
        (namespace,) = of_kind("Namespace")
        others = {m["metadata"]["namespace"] for _, m in ALL if m["kind"] != "Namespace"}
        assert others == {namespace["metadata"]["name"]}

    def test_the_namespace_takes_restricted_pods_alone(self) -> None:
        (namespace,) = of_kind("Namespace")
        labels = namespace["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"

    @pytest.mark.parametrize("name", WORKLOADS)
    def test_a_pod_is_restricted(self, name: str) -> None:
        found = pod(WORKLOADS[name])
        assert found["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert found["automountServiceAccountToken"] is False
        assert container(WORKLOADS[name])["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }

    def test_the_user_is_that_of_the_image(self) -> None:
        assert "\nUSER 10001:10001\n" in (ROOT / "Dockerfile").read_text()

    @pytest.mark.parametrize("name", WORKLOADS)
    def test_what_is_written_to_is_mounted_and_limited(self, name: str) -> None:
        found = container(WORKLOADS[name])
        mounts = {mount["mountPath"]: mount["name"] for mount in found["volumeMounts"]}
        volumes = {volume["name"]: volume["emptyDir"] for volume in pod(WORKLOADS[name])["volumes"]}
        assert "/tmp" in mounts
        assert sorted(mounts.values()) == sorted(volumes)
        assert all("sizeLimit" in volume for volume in volumes.values())
        assert "memory" in found["resources"]["limits"]

    @pytest.mark.parametrize("name", WORKLOADS)
    def test_no_variable_of_a_service_is_taken_for_a_setting(self, name: str) -> None:
        """Of the Service `analytics` Kubernetes would make ANALYTICS_PORT=tcp://..."""
        assert pod(WORKLOADS[name])["enableServiceLinks"] is False

    @pytest.mark.parametrize("name", WORKLOADS)
    def test_the_image_is_that_of_this_version(self, name: str) -> None:
        assert container(WORKLOADS[name])["image"] == f"analytics-service:{version()}"

    def test_the_name_of_the_job_has_the_version(self) -> None:
        (job,) = of_kind("Job")
        assert job["metadata"]["name"] == f"analytics-migrate-{version()}"

    def test_containers_run_commands_of_the_service(self) -> None:
        serve, rollup = SERVING["args"], container(WORKLOADS["analytics-rollup"])["args"]
        (script,) = container(of_kind("Job")[0])["args"]
        called = re.findall(r"python main\.py (.+)$", script, re.MULTILINE)
        assert (serve, rollup) == (["serve"], ["rollup"])
        assert [line.split()[0] for line in called] == ["migrate", "keys"]
        for arguments in [serve, rollup, *map(shlex.split, called)]:
            assert fault_of(["python", "main.py", *arguments]) is None

    def test_what_is_set_are_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert values().keys() <= SETTINGS
        for name, value in values().items():
            monkeypatch.setenv(name, value)
        assert load_settings().workers == 2

    def test_the_secret_is_to_be_filled_in(self) -> None:
        for secret in of_kind("Secret"):
            assert all("REPLACE" in value for value in secret["stringData"].values())

    def test_what_a_container_reads_is_there(self) -> None:
        there = {
            (manifest["metadata"]["name"], key)
            for manifest in of_kind("Secret") + of_kind("ConfigMap")
            for key in (manifest.get("stringData") or manifest.get("data") or {})
        }
        names = {name for name, _ in there}
        for workload in WORKLOADS.values():
            found = container(workload)
            sources = chain.from_iterable(source.values() for source in found.get("envFrom", ()))
            assert {source["name"] for source in sources} <= names
            for entry in found.get("env", ()):
                if "value" not in entry:
                    reference = entry["valueFrom"]["secretKeyRef"]
                    assert (reference["name"], reference["key"]) in there

    def test_the_job_and_the_service_have_the_same_schema(self) -> None:
        (config,) = of_kind("ConfigMap")
        literals = {
            e["name"]: e["value"] for e in container(of_kind("Job")[0])["env"] if "value" in e
        }
        assert literals == {"ANALYTICS_SCHEMA": config["data"]["ANALYTICS_SCHEMA"]}

    def test_only_the_service_and_the_job_know_the_owner(self) -> None:
        (url,) = container(WORKLOADS["analytics-rollup"])["env"]
        assert url["name"] == "DATABASE_URL"
        assert url["valueFrom"]["secretKeyRef"]["key"] == "ANALYTICS_ROLLUP_DATABASE_URL"

    def test_the_port_is_that_of_the_service(self) -> None:
        (port,) = SERVING["ports"]
        assert port == {"name": "http", "containerPort": Settings().port}
        (service,), (policy,) = of_kind("Service"), of_kind("NetworkPolicy")
        assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]
        (rule,) = policy["spec"]["ingress"]
        assert rule["ports"] == [{"protocol": "TCP", "port": "http"}]

    @pytest.mark.parametrize(
        ("probe", "path"),
        [
            ("startupProbe", "/healthz"),
            ("livenessProbe", "/healthz"),
            ("readinessProbe", "/readyz"),
        ],
    )
    def test_a_probe_asks_for_a_path_that_there_is(self, probe: str, path: str) -> None:
        assert SERVING[probe]["httpGet"] == {"path": path, "port": "http"}
        assert "get" in PATHS[path]

    def test_the_service_replaces_a_worker_that_hangs_before_kubernetes_restarts_all(self) -> None:
        probe = SERVING["livenessProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] > _HANGS_AFTER_S

    def test_a_replica_that_is_not_ready_is_taken_out_as_the_page_says(self) -> None:
        assert "Ask every 5 s, take out after 2 failures" in (ROOT / "docs/replicas.md").read_text()
        probe = SERVING["readinessProbe"]
        assert (probe["periodSeconds"], probe["failureThreshold"]) == (5, 2)

    def test_kubernetes_waits_for_requests_to_end(self) -> None:
        delay = SERVING["lifecycle"]["preStop"]["sleep"]["seconds"]
        grace = pod(WORKLOADS["analytics"])["terminationGracePeriodSeconds"]
        assert grace > delay + STOPPED_WITHIN_S

    def test_selectors_find_their_pods(self) -> None:
        labels = {
            name: workload["spec"]["template"]["metadata"]["labels"]
            for name, workload in WORKLOADS.items()
        }
        for name, workload in WORKLOADS.items():
            if workload["kind"] == "Deployment":
                assert workload["spec"]["selector"]["matchLabels"] == labels[name]
        (service,), (budget,), (policy,) = map(
            of_kind, ("Service", "PodDisruptionBudget", "NetworkPolicy")
        )
        assert service["spec"]["selector"] == labels["analytics"]
        assert budget["spec"]["selector"]["matchLabels"] == labels["analytics"]
        chosen = policy["spec"]["podSelector"]["matchLabels"].items()
        assert all(chosen <= found.items() for found in labels.values())
        assert len({*map(str, labels.values())}) == len(WORKLOADS) == 3

    def test_an_upgrade_and_a_drained_node_leave_a_replica(self) -> None:
        spec = WORKLOADS["analytics"]["spec"]
        (budget,) = of_kind("PodDisruptionBudget")
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert spec["replicas"] - budget["spec"]["maxUnavailable"] >= 1
