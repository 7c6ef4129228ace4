"""KubeRay's published validation rules for RayJob and RayCluster (1.7, its file utils/validation.go), as predicates."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Manifest = dict[str, Any]
Rule = Callable[[Manifest], bool]

_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_AUTH_SINCE, _K8S_AUTH_SINCE = (2, 52), (2, 55)
LONGEST_JOB, LONGEST_CLUSTER = 47, 53
"""A RayJob's cluster has the job's name and a suffix of six letters."""


def _cluster(job: Manifest) -> Manifest:
    return job["spec"].get("rayClusterSpec", {})


def _groups(cluster: Manifest) -> list[Manifest]:
    return [cluster.get("headGroupSpec", {}), *cluster.get("workerGroupSpecs", [])]


def _pods(cluster: Manifest) -> list[Manifest]:
    return [group.get("template", {}).get("spec", {}) for group in _groups(cluster)]


def _version(cluster: Manifest) -> tuple[int, ...]:
    return tuple(int(part) for part in cluster.get("rayVersion", "0").split(".")[:2])


def _auth(cluster: Manifest) -> Manifest:
    return cluster.get("authOptions", {})


def _named(manifest: Manifest, longest: int) -> bool:
    name = manifest["metadata"]["name"]
    return len(name) <= longest and bool(_DNS_1035.fullmatch(name))


CLUSTER_RULES: dict[str, Rule] = {
    "every group has a container": lambda one: all(pod.get("containers") for pod in _pods(one)),
    "a group's sizes are given, and in order": lambda one: all(
        0 <= group.get("minReplicas", -1) <= group.get("maxReplicas", -1) for group in one.get("workerGroupSpecs", [])
    ),
    "resources of a group are given in one way": lambda one: (
        not any(
            group.get("resources") and {"num-cpus", "num-gpus", "memory", "resources"} & set(group["rayStartParams"])
            for group in _groups(one)
        )
    ),
    "labels are no parameter of ray start": lambda one: (
        not any("labels" in group.get("rayStartParams", {}) for group in _groups(one))
    ),
    "tokens need Ray 2.52": lambda one: _auth(one).get("mode") != "token" or _version(one) >= _AUTH_SINCE,
    "tokens of Kubernetes need Ray 2.55, the mode token, and no secret": lambda one: (
        not _auth(one).get("enableK8sTokenAuth")
        or (_version(one) >= _K8S_AUTH_SINCE and _auth(one).get("mode") == "token" and "secretName" not in _auth(one))
    ),
    "networkPolicy and tlsOptions are behind feature gates": lambda one: not {"networkPolicy", "tlsOptions"} & set(one),
}

JOB_RULES: dict[str, Rule] = {
    "its name is a DNS-1035 label with room for a suffix": lambda one: _named(one, LONGEST_JOB),
    "a cluster of its own, or a selector": lambda one: (
        "rayClusterSpec" in one["spec"] or bool(one["spec"].get("clusterSelector"))
    ),
    "suspend needs shutdownAfterJobFinishes": lambda one: (
        not one["spec"].get("suspend") or bool(one["spec"].get("shutdownAfterJobFinishes"))
    ),
    "clusterSelector forbids suspend, backoffLimit and SidecarMode": lambda one: (
        not one["spec"].get("clusterSelector")
        or not (
            one["spec"].get("suspend")
            or one["spec"].get("backoffLimit")
            or one["spec"].get("submissionMode") == "SidecarMode"
        )
    ),
    "SidecarMode forbids a submitter's template and settings, and a head that is restarted": lambda one: (
        one["spec"].get("submissionMode") != "SidecarMode"
        or not (
            {"submitterPodTemplate", "submitterConfig"} & set(one["spec"])
            or _pods(_cluster(one))[0].get("restartPolicy", "Never") != "Never"
        )
    ),
    "InteractiveMode forbids backoffLimit": lambda one: (
        one["spec"].get("submissionMode") != "InteractiveMode" or not one["spec"].get("backoffLimit")
    ),
    "the submission mode is known": lambda one: (
        one["spec"].get("submissionMode", "K8sJobMode") in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    ),
    "ttlSecondsAfterFinished needs shutdownAfterJobFinishes": lambda one: (
        not one["spec"].get("ttlSecondsAfterFinished") or bool(one["spec"].get("shutdownAfterJobFinishes"))
    ),
    "shutdownAfterJobFinishes excludes deletion rules": lambda one: (
        not one["spec"].get("shutdownAfterJobFinishes")
        or not one["spec"].get("deletionStrategy", {}).get("deletionRules")
    ),
    "limits and deadlines are positive": lambda one: (
        one["spec"].get("backoffLimit", 0) >= 0
        and all(one["spec"].get(name, 1) > 0 for name in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"))
    ),
    "tokens of Kubernetes are not for RayJobs": lambda one: not _auth(_cluster(one)).get("enableK8sTokenAuth"),
}


def broken(manifest: Manifest) -> list[str]:
    """The rules that a RayJob or RayCluster breaks."""
    if manifest["kind"] == "RayCluster":
        rules = {**CLUSTER_RULES, "its name is a DNS-1035 label": lambda one: _named(manifest, LONGEST_CLUSTER)}
        return [name for name, holds in rules.items() if not holds(manifest["spec"])]
    jobs = [name for name, holds in JOB_RULES.items() if not holds(manifest)]
    return jobs + [name for name, holds in CLUSTER_RULES.items() if not holds(_cluster(manifest))]
