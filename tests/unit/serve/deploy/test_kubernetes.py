"""The Kubernetes manifests are what KubeRay and Kubernetes take, and say what the rest of the project says."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.cluster_files import ROOT
from tests.support.kuberay import broken_rules, cluster_of, schema

FOLDER = ROOT / "serve" / "deploy" / "kubernetes"
RESOURCES: dict[str, dict[str, Any]] = {
    f"{resource['kind']}/{resource['metadata']['name']}": resource
    for path in sorted(FOLDER.glob("*.yaml"))
    for resource in yaml.safe_load_all(path.read_text())
}
RAY = [name for name in RESOURCES if name.startswith("Ray")]
SECRETS = {name.removeprefix("Secret/"): RESOURCES[name] for name in RESOURCES if name.startswith("Secret/")}
CLUSTERS = {name: cluster for name in RAY if (cluster := cluster_of(RESOURCES[name]))}


PODS = [
    pytest.param(group["template"]["spec"], id=f"{name}/{group.get('groupName', 'head')}")
    for name, cluster in CLUSTERS.items()
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
]


@pytest.mark.parametrize("name", RAY)
def test_kuberay_takes_it(name: str) -> None:
    jsonschema.Draft202012Validator(schema(RESOURCES[name]["kind"])).validate(RESOURCES[name])
    assert broken_rules(RESOURCES[name]) == []


@pytest.mark.parametrize("name", RAY)
def test_an_unknown_field_is_refused(name: str) -> None:
    resource = {**RESOURCES[name], "spec": {**RESOURCES[name]["spec"], "nonsense": 1}}
    with pytest.raises(jsonschema.ValidationError, match="nonsense"):
        jsonschema.validate(resource, schema(resource["kind"]))


def test_all_kinds_are_there() -> None:
    ray = {"RayService", "RayCluster", "RayJob", "RayCronJob"}
    assert {name.split("/")[0] for name in RESOURCES} == ray | {"Secret", "PodMonitor"}


def test_pods_are_scraped_as_machines_are() -> None:
    """The alerts watch the job `ray`; what is dropped is what `prometheus.yml` drops."""
    monitor = RESOURCES["PodMonitor/raycommend"]["spec"]
    [endpoint] = monitor["podMetricsEndpoints"]
    assert monitor["selector"] == {"matchLabels": {"ray.io/is-ray-node": "yes"}}
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "ray"}]
    plain = yaml.safe_load((ROOT / "serve" / "deploy" / "prometheus" / "prometheus.yml").read_text())
    [job] = [job for job in plain["scrape_configs"] if job["job_name"] == "ray"]
    assert endpoint["metricRelabelings"] == job["metric_relabel_configs"]


@pytest.mark.parametrize("pod", PODS)
def test_kubernetes_takes_the_pods(pod: dict[str, Any]) -> None:
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": pod}, "1.33", strict=True
    )


def test_kubernetes_refuses_an_unknown_field_of_a_pod() -> None:
    pod = {"containers": [{"name": "one", "image": "one", "nonsense": 1}]}
    with pytest.raises(kubernetes_validate.ValidationError, match="nonsense"):
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": pod}, "1.33", strict=True
        )


@pytest.mark.parametrize("name", SECRETS)
def test_kubernetes_takes_the_secrets(name: str) -> None:
    kubernetes_validate.validate(SECRETS[name], "1.33", strict=True)


@pytest.mark.parametrize("pod", PODS)
def test_pods_run_as_nobody_special_within_limits(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    (container,) = pod["containers"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
    assert container["resources"]["limits"] == container["resources"]["requests"]
    assert re.fullmatch(r"[a-z./]+:\d+\.\d+\.\d+(-gpu)?", container["image"])


@pytest.mark.parametrize("pod", PODS)
def test_secrets_come_from_secrets_that_are_there(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "raycommend-settings"}}]
    assert "env" not in container
    assert {
        "RAYCOMMEND_STORE",
        "RAYCOMMEND_ARCHIVE",
        "MLFLOW_TRACKING_URI",
        "PGPASSWORD",
        "RAYCOMMEND_API_KEY",
    } <= SECRETS["raycommend-settings"]["stringData"].keys()


@pytest.mark.parametrize("name", CLUSTERS)
def test_tokens_are_on_and_the_head_runs_no_work(name: str) -> None:
    cluster = CLUSTERS[name]
    assert cluster["authOptions"] == {"mode": "token", "secretName": "raycommend-token"}
    assert SECRETS["raycommend-token"]["stringData"].keys() == {"auth_token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["enableInTreeAutoscaling"]
    (ray,) = re.findall(r"^ray==(.+)$", (ROOT / ".constraints.txt").read_text(), re.MULTILINE)
    assert cluster["rayVersion"] == ray


def test_the_service_outlives_its_head_and_is_upgraded_step_by_step() -> None:
    spec = RESOURCES["RayService/raycommend"]["spec"]
    tolerance = spec["rayClusterConfig"]["gcsFaultToleranceOptions"]
    secret = tolerance["redisPassword"]["valueFrom"]["secretKeyRef"]
    assert SECRETS[secret["name"]]["stringData"].keys() == {secret["key"]}
    assert spec["upgradeStrategy"]["type"] == "NewClusterWithIncrementalUpgrade"


def test_the_service_is_that_of_the_other_clusters_behind_haproxy() -> None:
    spec = RESOURCES["RayService/raycommend"]["spec"]
    assert yaml.safe_load(spec["serveConfigV2"]) == yaml.safe_load((ROOT / "serve/deploy/service.yaml").read_text())
    cluster = spec["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert container["args"] == ['variables=$(python -m serve.environment --cluster) || exit 1; eval "$variables"']
        assert {"containerPort": 8000, "name": "serve"} in container["ports"]


@pytest.mark.heavy
def test_the_pods_start_ray_with_haproxy_in_its_environment() -> None:
    """As KubeRay does: what the container is given, and after it the start of Ray."""
    cluster = RESOURCES["RayService/raycommend"]["spec"]["rayClusterConfig"]
    (given,) = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["args"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for python, starts in ((path, True), ("/usr/bin:/bin", False)):  # where it cannot be had, Ray does not start
        command = ["bash", "-c", "--", f" {given}  && ulimit -n 10; echo starts $RAY_SERVE_ENABLE_HA_PROXY"]
        environment = {"PATH": python, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.stdout == "starts 1\n") == starts == (done.returncode == 0)


@pytest.mark.parametrize(
    "name", ["RayJob/raycommend-train", "RayCronJob/raycommend-nightly", "RayCronJob/raycommend-continuous"]
)
def test_training_runs_on_a_cluster_that_is_there_and_not_on_its_head(name: str) -> None:
    spec = RESOURCES[name]["spec"]
    job = spec.get("jobTemplate", spec)
    assert f"RayCluster/{job['clusterSelector']['ray.io/cluster']}" in CLUSTERS
    assert job["entrypointNumCpus"] >= 1
    assert re.match(r"python -m rl\.(train|continuous) ", job["entrypoint"])
    for path in re.findall(r"/opt/raycommend/(\S+)", job["entrypoint"]):
        assert (ROOT / path).is_file()


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"enableInTreeAutoscaling": False}, "an incremental upgrade needs its options and the autoscaler"),
        ({"rayVersion": "2.51.0"}, "tokens need Ray 2.52"),
    ],
)
def test_the_rules_of_the_operator_are_looked_at(change: dict[str, Any], broken: str) -> None:
    service = RESOURCES["RayService/raycommend"]
    cluster = {**service["spec"]["rayClusterConfig"], **change}
    assert broken_rules({**service, "spec": {**service["spec"], "rayClusterConfig": cluster}}) == [broken]
