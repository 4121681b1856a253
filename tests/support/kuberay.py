"""What KubeRay 1.7 takes: the fields of ray.io/v1 that our manifests use or stand beside, and rules of its operator.

Reduced by hand from its resource definitions: a field that is not here is refused. Pod templates are Kubernetes' own.
"""

from collections.abc import Mapping
from typing import Any, Final

_TEXT: Final = {"type": "string", "minLength": 1}
_NUMBER: Final = {"type": "integer", "minimum": 0}
_YES_OR_NO: Final = {"type": "boolean"}
_TEXTS: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_NAME: Final = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"}  # a DNS-1035 label, as the operator wants


def _object(required: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": fields}


_SECRET: Final = _object(
    value=_TEXT, valueFrom=_object(("secretKeyRef",), secretKeyRef=_object(("name", "key"), name=_TEXT, key=_TEXT))
)
_GROUP: Final = {"rayStartParams": _TEXTS, "labels": _TEXTS, "template": {"type": "object"}}
_CLUSTER: Final = _object(
    ("headGroupSpec", "rayVersion"),  # the operator wants the version where tokens are on
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    enableInTreeAutoscaling=_YES_OR_NO,
    autoscalerOptions=_object(
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=_NUMBER,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    ),
    authOptions=_object(mode={"enum": ["token", "disabled"]}, secretName=_TEXT, enableK8sTokenAuth=_YES_OR_NO),
    gcsFaultToleranceOptions=_object(
        backend={"enum": ["redis", "rocksdb"]},
        redisAddress=_TEXT,
        redisUsername=_SECRET,
        redisPassword=_SECRET,
        externalStorageNamespace=_TEXT,
        storage=_object(size=_TEXT, claimName=_TEXT, storageClassName=_TEXT, subPath=_TEXT),
    ),
    headGroupSpec=_object(("template",), **_GROUP, serviceType=_TEXT),
    workerGroupSpecs={
        "type": "array",
        "items": _object(
            ("groupName", "minReplicas", "maxReplicas", "template"),
            **_GROUP,
            groupName=_NAME,
            replicas=_NUMBER,
            minReplicas=_NUMBER,
            maxReplicas=_NUMBER,
            numOfHosts=_NUMBER,
            idleTimeoutSeconds=_NUMBER,
            priority={"type": "integer"},
        ),
    },
)
_SERVICE: Final = _object(
    ("rayClusterConfig",),
    rayClusterConfig=_CLUSTER,
    serveConfigV2=_TEXT,
    excludeHeadPodFromServeSvc=_YES_OR_NO,
    rayClusterDeletionDelaySeconds=_NUMBER,
    upgradeStrategy=_object(
        type={"enum": ["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]},
        clusterUpgradeOptions=_object(
            ("gatewayClassName", "stepSizePercent", "intervalSeconds"),
            gatewayClassName=_TEXT,
            stepSizePercent={"type": "integer", "minimum": 0, "maximum": 100},
            maxSurgePercent={"type": "integer", "minimum": 0, "maximum": 100},
            intervalSeconds={"type": "integer", "minimum": 1},
        ),
    ),
)
_JOB: Final = _object(
    ("entrypoint",),
    rayClusterSpec=_CLUSTER,
    clusterSelector=_TEXTS,
    entrypoint=_TEXT,
    entrypointNumCpus={"type": "number", "minimum": 0},
    entrypointNumGpus={"type": "number", "minimum": 0},
    runtimeEnvYAML=_TEXT,
    metadata=_TEXTS,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    shutdownAfterJobFinishes=_YES_OR_NO,
    ttlSecondsAfterFinished=_NUMBER,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    backoffLimit=_NUMBER,
    suspend=_YES_OR_NO,
)
_FIELD: Final = r"(\*|\d+(-\d+)?)(/\d+)?(,\d+(-\d+)?)*"
_NIGHTLY: Final = _object(
    ("jobTemplate", "schedule"),
    jobTemplate=_JOB,
    schedule={"type": "string", "pattern": f"^{_FIELD}( {_FIELD}){{4}}$"},
    timeZone=_TEXT,
    suspend=_YES_OR_NO,
)
_LONGEST: Final = {"RayCluster": 53, "RayService": 47, "RayJob": 47, "RayCronJob": 36}


def schema(kind: str) -> dict[str, Any]:
    """Return the schema of a resource of ray.io/v1."""
    spec = {"RayCluster": _CLUSTER, "RayService": _SERVICE, "RayJob": _JOB, "RayCronJob": _NIGHTLY}[kind]
    name = {**_NAME, "maxLength": _LONGEST[kind]}
    return _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=_object(("name",), name=name, namespace=_TEXT, labels=_TEXTS, annotations=_TEXTS),
        spec=spec,
    )


def cluster_of(resource: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the cluster that a resource starts; None: it uses another's."""
    spec: dict[str, Any] = resource["spec"]
    key = {"RayService": "rayClusterConfig", "RayJob": "rayClusterSpec"}
    return spec if resource["kind"] == "RayCluster" else spec.get(key.get(resource["kind"], ""))


def broken_rules(resource: Mapping[str, Any]) -> list[str]:
    """Return which rules of the operator a resource breaks that no schema says."""
    found: list[str] = []
    if cluster := cluster_of(resource):
        found += _broken_by_cluster(cluster)
    if resource["kind"] == "RayService":
        strategy = resource["spec"].get("upgradeStrategy", {})
        options = strategy.get("clusterUpgradeOptions", {})
        if strategy.get("type") == "NewClusterWithIncrementalUpgrade":
            if not options or not resource["spec"]["rayClusterConfig"].get("enableInTreeAutoscaling"):
                found.append("an incremental upgrade needs its options and the autoscaler")
            elif options["stepSizePercent"] > options.get("maxSurgePercent", 100):
                found.append("a step of an upgrade may not be larger than the surge")
    if resource["kind"] in ("RayJob", "RayCronJob"):
        job = resource["spec"].get("jobTemplate", resource["spec"])
        if ("clusterSelector" in job) == ("rayClusterSpec" in job):
            found.append("a job has a cluster of its own, or selects one")
        if "clusterSelector" in job and (job.get("backoffLimit") or job.get("suspend")):
            found.append("a job on a selected cluster is neither tried again nor suspended")
    return found


def _broken_by_cluster(cluster: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    version = tuple(map(int, cluster["rayVersion"].split(".")))
    if cluster.get("authOptions", {}).get("mode") == "token" and version < (2, 52, 0):
        found.append("tokens need Ray 2.52")
    groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]
    for group in groups:
        pod = group["template"]["spec"]
        if cluster.get("autoscalerOptions", {}).get("version") == "v2" and pod.get("restartPolicy", "Never") != "Never":
            found.append("pods are not restarted under autoscaler v2")
        if "labels" in group.get("rayStartParams", {}):
            found.append("labels stand beside rayStartParams")
        names = {variable["name"] for variable in pod["containers"][0].get("env", [])}
        if cluster.get("gcsFaultToleranceOptions") and names & {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD"}:
            found.append("gcsFaultToleranceOptions say where Redis is, and no variable beside them")
        if group.get("minReplicas", 0) > group.get("maxReplicas", 0) and group is not groups[0]:
            found.append("fewer workers at most than at least")
    return found
