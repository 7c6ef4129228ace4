"""Pods of a Ray cluster on Kubernetes: an ordinary user, a read-only root, a hook that saves before the pod goes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier.jobs.job import WorkersConfig
from espalier.stages.stop_wish import FILE as STOP_FILE
from espalier_cluster.manifest_settings import KubeRaySettings

_USER = 1000  # of the image
_AGENT_PORT = 52365
_DASHBOARD_PORT = 8265
_GCS_PORT = 6379

Pod = dict[str, Any]


@dataclass(frozen=True)
class PodShape:
    """What head and workers have in common.

    Attributes:
        mount: of the volume that all share.
        run_folder: of the run that the cluster is for; None for a cluster that outlives runs.
        grace_seconds: from the request to go until the pod is killed.
    """

    image: str
    mount: str
    storage: str
    run_folder: Path | None
    grace_seconds: int


def head_pod(shape: PodShape, settings: KubeRaySettings, *, config_map: str | None) -> Pod:
    """The head: Ray's control store and Jobs server, and the driver.

    Args:
        config_map: with the job; None for a cluster that outlives jobs.
    """
    resources = {
        "requests": {"cpu": "2", "memory": settings.head_memory},
        "limits": {"memory": settings.head_memory},
    }
    container = _container("ray-head", shape, resources)
    container["ports"] = [
        {"name": "gcs-server", "containerPort": _GCS_PORT},
        {"name": "dashboard", "containerPort": _DASHBOARD_PORT},
    ]
    key = {"name": settings.wandb_secret, "key": "api_key", "optional": True}
    container["env"] += [
        {"name": "WANDB_API_KEY", "valueFrom": {"secretKeyRef": key}},
        {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(shape.grace_seconds)},  # 3 by default: no time to save
    ]
    if shape.run_folder is not None:
        container["lifecycle"] = _before_stop("espalier", "stop", str(shape.run_folder), "--preempted")
    pod = _pod(container, shape, settings)
    if config_map is not None:
        container["volumeMounts"].append({"name": "job", "mountPath": "/etc/espalier", "readOnly": True})
        pod["spec"]["volumes"].append({"name": "job", "configMap": {"name": config_map}})
    return pod


def worker_pod(shape: PodShape, workers: WorkersConfig, settings: KubeRaySettings, *, num_workers: int) -> Pod:
    """A pod for so many workers, with their GPUs.

    All pods of a cluster are asked to go at once: this one waits until the driver has saved.
    """
    number, unit = int(settings.memory_each[:-2]), settings.memory_each[-2:]
    memory = f"{number * num_workers}{unit}"
    gpus = {"nvidia.com/gpu": str(num_workers * workers.gpus_each)} if workers.gpus_each else {}
    resources = {
        "requests": {"cpu": str(num_workers * workers.cpus_each + 1), "memory": memory, **gpus},
        "limits": {"memory": memory, **gpus},
    }
    container = _container("ray-worker", shape, resources)
    if shape.run_folder is not None:
        wish = shlex.quote(str(shape.run_folder / STOP_FILE))  # there from the head's hook until the driver has saved
        asked = f"for second in 1 2 3 4 5 6 7 8 9 10; do [ -e {wish} ] && break; sleep 1; done"
        waiting = f"{asked}; while [ -e {wish} ]; do sleep 1; done"
        container["lifecycle"] = _before_stop("/bin/sh", "-c", waiting)
    pod = _pod(container, shape, settings)
    if workers.gpus_each:
        pod["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    if settings.node_selector is not None:
        label, _, value = settings.node_selector.partition("=")
        pod["spec"]["nodeSelector"] = {label: value}
    return pod


def _container(name: str, shape: PodShape, resources: Pod) -> Pod:
    return {
        "name": name,
        "image": shape.image,
        "resources": resources,
        "env": [
            {"name": "HOME", "value": "/tmp"},  # the root is read-only
            {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
            {"name": "ESPALIER_STORAGE", "value": shape.storage},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "storage", "mountPath": shape.mount},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
        ],
        "readinessProbe": _probe(failures=12, first=5),
        "livenessProbe": _probe(failures=60, first=30),
    }


def _pod(container: Pod, shape: PodShape, settings: KubeRaySettings) -> Pod:
    spec = {
        "containers": [container],
        "volumes": [
            {"name": "storage", "persistentVolumeClaim": {"claimName": settings.claim}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": settings.shared_memory}},
        ],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": shape.grace_seconds,
    }
    return {"metadata": {"labels": {"app.kubernetes.io/name": "espalier"}}, "spec": spec}


def _probe(*, failures: int, first: int) -> Pod:
    """Ray's own health check (since 2.53), which asks for no token; the operator's older one needs wget."""
    return {
        "httpGet": {"path": "/api/healthz", "port": _AGENT_PORT},
        "initialDelaySeconds": first,
        "periodSeconds": 5,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _before_stop(*command: str) -> Pod:
    return {"preStop": {"exec": {"command": list(command)}}}
