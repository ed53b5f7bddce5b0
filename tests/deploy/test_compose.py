"""The compose file and the Dockerfile, held against their schema, a linter, and each other."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import subprocess
import sys

import pytest

from deploy.kit import DEPLOY, ROOT, program, read_yaml

COMPOSE = read_yaml((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (DEPLOY / "docker" / "Dockerfile").read_text()


def check(name, *arguments):
    checker = program(name)
    if checker is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run(
        [checker, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_fits_the_compose_specification():
    check(
        "check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"
    )


def test_the_dockerfile_passes_its_linter():
    check("hadolint", DEPLOY / "docker" / "Dockerfile")


def test_the_profiles_are_the_four_that_the_docs_name():
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}

    assert profiles == {
        "monitor": [],
        "postgres": ["postgres"],
        "prometheus": ["observability"],
        "alertmanager": ["observability"],
        "grafana": ["observability"],
        "demo": ["demo"],
    }


def test_only_loopback_is_published():
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_every_service_that_stays_has_a_health_check():
    without = {name for name, service in SERVICES.items() if "healthcheck" not in service}

    # The service's own stands in its image; the demo ends.
    assert without == {"monitor", "demo"}
    assert re.search(r"^HEALTHCHECK .*healthcheck\.py", DOCKERFILE, re.MULTILINE)


def test_no_secret_stands_in_the_compose_file_and_each_is_declared():
    declared = set(COMPOSE["secrets"])
    used = {name for service in SERVICES.values() for name in service.get("secrets", ())}
    named = set(
        re.findall(r"/run/secrets/(\w+)", json.dumps(SERVICES))
        + re.findall(r"/run/secrets/(\w+)", (ROOT / ".env.example").read_text())
    )

    assert used == declared
    # Prometheus' one is named in its own configuration.
    assert named | {"prometheus_token"} == declared
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            secret = re.search(r"PASSWORD|TOKEN|DATABASE_URL", key)
            assert not secret or value is None or value.startswith("/run/secrets/"), key


def test_every_mounted_file_exists():
    mounted = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    ]

    assert mounted
    assert [path for path in mounted if not (ROOT / path).exists()] == []


def test_every_variable_of_the_example_is_one_that_compose_reads():
    example = (ROOT / ".env.example").read_text()
    offered = set(re.findall(r"^(?:# )?([A-Z_]+)=", example, re.MULTILINE))
    text = (ROOT / "docker-compose.yml").read_text()
    read = set(re.findall(r"\$\{([A-Z_]+)", text)) | {"WATCHSTEP_DATABASE_URL_FILE"}

    assert offered - {"COMPOSE_PROFILES"} <= read
    for variable, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text):
        given = re.search(rf"^{variable}=(.*)$", example, re.MULTILINE)
        assert given is None or given[1] == default, variable


def test_images_are_pinned_to_a_version():
    for name, service in SERVICES.items():
        image = re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", service["image"])
        assert re.fullmatch(r"[\w/]+:v?\d[\w.-]*", image), name


def test_the_images_never_run_as_root():
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    bases = {name: base for base, name in stages}

    assert stages[-1][1] == "monitor"
    assert bases["monitor"] == bases["demo"] == "base"
    assert "USER 10001:10001" in DOCKERFILE
    assert "USER root" not in DOCKERFILE


def test_secrets_are_made_once_and_kept(tmp_path):
    def make():
        subprocess.run(
            [sys.executable, DEPLOY / "make_secrets.py", tmp_path / "secrets"],
            check=True,
            capture_output=True,
            timeout=30,
        )
        return {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}

    first, second = make(), make()

    assert first == second
    needed = {secret["file"].removeprefix("./secrets/") for secret in COMPOSE["secrets"].values()}
    assert needed <= set(first)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert first[".gitignore"] == "*\n"
    hashes = {load["name"]: load["sha256"] for load in json.loads(first["tokens.json"])}
    for name in ("trainer", "prometheus", "admin"):
        token = first[f"{name}_token"]
        assert hashlib.sha256(token.encode()).hexdigest() == hashes[name]
        assert token not in first["tokens.json"]
    assert first["postgres_password"] in first["database_url"]
