"""The Kubernetes manifests, built by kustomize and held against Kubernetes' own schemas."""

from __future__ import annotations

import io
import shutil
import subprocess

import pytest
from ruamel.yaml import YAML

from deploy.kit import DEPLOY, program

KUBERNETES = DEPLOY / "kubernetes"
VARIANTS = ["base", "overlays/read-write-once", "overlays/postgres"]
# No schema of theirs is in Kubernetes itself; they are the Prometheus operator's.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}


def kustomize(folder):
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(command[0]):
            done = subprocess.run(
                [*command, folder], capture_output=True, text=True, check=False, timeout=60
            )
            assert done.returncode == 0, done.stderr
            return done.stdout
    pytest.skip("neither kustomize nor kubectl is installed")


@pytest.fixture(scope="module")
def built():
    return {variant: kustomize(KUBERNETES / variant) for variant in VARIANTS}


def objects(text):
    documents = YAML(typ="safe", pure=True).load_all(io.StringIO(text))
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}


@pytest.mark.parametrize("variant", VARIANTS)
def test_manifests_fit_kubernetes_schemas(built, variant, tmp_path):
    checker = program("kubernetes-validate")
    if checker is None:
        pytest.skip("kubernetes-validate is not installed")
    file = tmp_path / "all.yaml"
    file.write_text(built[variant])

    done = subprocess.run(
        [checker, "--strict", file], capture_output=True, text=True, check=False, timeout=120
    )

    lines = (done.stdout + done.stderr).splitlines()
    passed = [line for line in lines if " passed for resource " in line]
    own = [kind for kind, _ in objects(built[variant]) if kind not in FOREIGN]
    assert done.returncode == 0, lines
    assert len(passed) == len(own), lines


@pytest.mark.parametrize("variant", VARIANTS)
def test_pods_meet_the_restricted_standard(built, variant):
    pod = objects(built[variant])["Deployment", "watchstep"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_pod_is_ready_only_when_it_can_commit(built, variant):
    deployment = objects(built[variant])["Deployment", "watchstep"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    # A database that is away must not restart pods, which would not bring it back.
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["startupProbe"]["httpGet"]["path"] == "/healthz"


@pytest.mark.parametrize(
    ("variant", "mode"),
    [("base", "ReadWriteOncePod"), ("overlays/read-write-once", "ReadWriteOnce")],
)
def test_sqlite_is_one_replica_with_a_volume_of_its_own(built, variant, mode):
    deployment = objects(built[variant])["Deployment", "watchstep"]["spec"]

    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}
    claim = objects(built[variant])["PersistentVolumeClaim", "watchstep-data"]
    assert claim["spec"]["accessModes"] == [mode]


def test_postgres_is_replicas_without_a_volume(built):
    everything = objects(built["overlays/postgres"])
    deployment = everything["Deployment", "watchstep"]["spec"]
    budget = everything["PodDisruptionBudget", "watchstep"]["spec"]
    env = {
        variable["name"]: variable["value"]
        for variable in deployment["template"]["spec"]["containers"][0]["env"]
    }

    assert deployment["replicas"] > budget["minAvailable"] >= 1
    assert deployment["strategy"]["type"] == "RollingUpdate"
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "WATCHSTEP_DATABASE_URL_FILE" in env
    assert not [kind for kind, _ in everything if kind == "PersistentVolumeClaim"]
    assert {kind for kind, _ in everything} >= {"NetworkPolicy", *FOREIGN}


def test_selectors_meet_what_they_select(built):
    everything = objects(built["overlays/postgres"])
    pod = everything["Deployment", "watchstep"]["spec"]["template"]["metadata"]["labels"]
    service = everything["Service", "watchstep"]

    assert service["spec"]["selector"].items() <= pod.items()
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert everything[kind, "watchstep"]["spec"][field]["matchLabels"].items() <= pod.items()
    monitor = everything["ServiceMonitor", "watchstep"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
