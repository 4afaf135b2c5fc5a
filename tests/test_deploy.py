"""What can be checked of the deployment files without an engine or a cluster."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from maskloop.settings import Settings, environment_names
from maskloop.web.auth import OPEN_ROUTES

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker-compose.yml"
KUBERNETES = ROOT / "deploy" / "kubernetes"
OURS = ("web", "worker-cpu", "worker-gpu", "trainer")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file with its YAML anchors resolved, without what it says to itself."""
    found = yaml.safe_load(COMPOSE.read_text())
    return {name: part for name, part in found.items() if not name.startswith("x-")}


def test_it_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    specification = pytest.importorskip("compose_spec")
    parsed = specification.PyCompose.from_json(json.dumps(compose))
    assert set(parsed.service_names()) == {"label-studio", "redis", "postgres", *OURS}


def test_the_engines_own_check_accepts_it(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("no docker compose here")
    secrets = subprocess.run([ROOT / "deploy" / "secrets.sh"], capture_output=True, check=True).stdout
    (tmp_path / ".env").write_bytes(secrets)
    command = [docker, "compose", "--env-file", tmp_path / ".env", "--profile", "*", "-f", COMPOSE, "config", "--quiet"]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""


def test_every_service_comes_back_and_says_how_it_is(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["restart"] == "unless-stopped", name
        assert "healthcheck" in service or name == "trainer", name
        for needed in service.get("depends_on", {}):
            assert "healthcheck" in compose["services"][needed]


def test_what_probes_the_web_needs_no_password(compose: dict[str, Any]) -> None:
    asked = re.findall(r"localhost:9090(/\w+)", json.dumps(compose["services"]["web"]["healthcheck"]))
    (pod,) = (part["spec"]["template"]["spec"] for part in manifests("web.yaml") if part["kind"] == "Deployment")
    (container,) = pod["containers"]
    asked += [container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")]
    assert len(asked) == 3
    assert set(asked) <= OPEN_ROUTES


def test_every_image_is_pinned(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.fullmatch(r"maskloop:(cpu|gpu)|[\w./-]+:\d+\.\d+\.?\d*(-\w+[\d.]*)*", service["image"]), name
    for line in (ROOT / "deploy" / "Dockerfile").read_text().splitlines():
        if line.startswith("ARG PYTHON="):
            assert re.fullmatch(r"ARG PYTHON=3\.\d+\.\d+-slim-\w+", line)


def test_our_containers_have_no_rights(compose: dict[str, Any]) -> None:
    for name in OURS:
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    assert "USER 10001:10001" in (ROOT / "deploy" / "Dockerfile").read_text()


def test_a_worker_may_finish_its_longest_job(compose: dict[str, Any]) -> None:
    limit = Settings.model_fields["job_limit_seconds"].default
    for name in ("web", "worker-cpu", "worker-gpu"):
        assert int(compose["services"][name]["stop_grace_period"].removesuffix("s")) > limit
    for manifest in ("web.yaml", "worker.yaml"):
        (pod,) = (part["spec"]["template"]["spec"] for part in manifests(manifest) if part["kind"] == "Deployment")
        assert pod["terminationGracePeriodSeconds"] > limit


def test_nothing_secret_is_written_down(compose: dict[str, Any]) -> None:
    for line in (ROOT / ".env.example").read_text().splitlines():
        name, _, value = line.partition("=")
        if re.search(r"PASS|SECRET|KEY", name) and not line.startswith("#"):
            assert value == "", name
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASS|SECRET|KEY|TOKEN|_URL", name) and "TOKEN" not in name.replace("USER_TOKEN", ""):
                assert "${" in value or "@" not in value, name


def test_secrets_are_made_up_and_all_that_compose_asks_for_is_there() -> None:
    runs = [subprocess.run([ROOT / "deploy" / "secrets.sh"], capture_output=True, text=True, check=True) for _ in "ab"]
    first, second = ({k: v for k, _, v in (line.partition("=") for line in run.stdout.splitlines())} for run in runs)
    for name in re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()):
        assert first[name]
        assert name == "BASIC_AUTH_USER" or first[name] != second[name]
    assert re.fullmatch(r"[0-9a-f]{40}", first["LABEL_STUDIO_API_KEY"])


def test_every_setting_named_exists(compose: dict[str, Any]) -> None:
    known = {name for names in environment_names().values() for name in names}
    for name in OURS:
        assert set(compose["services"][name]["environment"]) <= known
    for part in manifests("settings.yaml"):
        named = set(part.get("data", {})) | set(part.get("stringData", {}))
        assert named - {"REDIS_PASSWORD"} <= known


def test_the_private_backend_can_be_reached(compose: dict[str, Any]) -> None:
    environment = compose["services"]["label-studio"]["environment"]
    assert environment["ML_BLOCK_LOCAL_IP"] == environment["SSRF_PROTECTION_ENABLED"] == "false"


def test_the_dockerfile_is_clean() -> None:
    linter = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("no hadolint here; the extra `dev` brings it")
    assert subprocess.run([linter, ROOT / "deploy" / "Dockerfile"], capture_output=True, text=True).stdout == ""


def test_what_the_image_needs_is_let_in() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source.strip("/").split("/")[0]
        for line in (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert copied == kept
    assert all((ROOT / name).exists() for name in kept)


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((KUBERNETES / name).read_text()))


@pytest.mark.parametrize("name", sorted(path.name for path in KUBERNETES.glob("*.yaml")))
def test_the_manifests_follow_the_api(name: str) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for part in manifests(name):
        if part["apiVersion"].split("/")[0] not in ("keda.sh", "kustomize.config.k8s.io"):
            validate.validate(part, validate.latest_version(), strict=True)


def test_the_manifests_are_all_applied() -> None:
    (kustomization,) = manifests("kustomization.yaml")
    optional = {"kustomization.yaml", "keda.yaml"}
    assert {path.name for path in KUBERNETES.glob("*.yaml")} - optional == set(kustomization["resources"])


def test_keda_watches_the_lists_that_the_queue_uses() -> None:
    from rq import Queue

    from maskloop.queue.job import Priority

    lists = {Queue.redis_queue_namespace_prefix + lane.value for lane in Priority}
    triggers = [t for part in manifests("keda.yaml") for t in part["spec"].get("triggers", [])]
    assert triggers
    assert all(trigger["metadata"]["listName"] in lists for trigger in triggers)
