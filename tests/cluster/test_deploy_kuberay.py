"""Manifests for KubeRay: its validation rules hold, pods are an ordinary user's, secrets stand in them by name."""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jobs_stand_in import job
from kuberay_rules import CLUSTER_RULES, JOB_RULES, broken

from espalier.config.faults import RefusedInput
from espalier.jobs.job import Job, WorkersConfig
from espalier_cluster.dry_run import dry_run
from espalier_cluster.manifest_kuberay import JOB_FILE
from espalier_cluster.manifest_settings import KubeRaySettings, read_settings

__all__ = ["job"]

Manifest = dict[str, Any]
SAMPLE = Path(__file__).parents[2] / "cluster" / "deploy" / "kuberay"


@pytest.fixture
def shared(job: Job) -> Job:
    workers = WorkersConfig(count=16, gpus_each=1, cpus_each=4)
    return job.model_copy(update={"storage": "/shared/runs", "workers": workers})


def manifests(job: Job, *settings: str) -> list[Manifest]:
    return list(yaml.safe_load_all(dry_run(job, "kuberay", settings)))


def ray_job(job: Job, *settings: str) -> Manifest:
    return manifests(job, *settings)[1]


def pods(manifest: Manifest) -> list[Manifest]:
    cluster = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def refusal(job: Job, *settings: str) -> str:
    with pytest.raises(RefusedInput) as refused:
        manifests(job, *settings)
    return "\n".join(str(fault) for fault in refused.value.faults)


@pytest.mark.parametrize("settings", [(), ("deploy.queue=team-a",), ("deploy.retries=0", "deploy.workers_per_pod=4")])
@pytest.mark.parametrize("gpus", [0, 1])
def test_generated_manifests_obey_the_rules(shared: Job, gpus: int, settings: tuple[str, ...]) -> None:
    workers = shared.workers.model_copy(update={"gpus_each": gpus})
    assert broken(ray_job(shared.model_copy(update={"workers": workers}), *settings)) == []


def put(path: str, value: object) -> Callable[[Manifest], None]:
    def change(manifest: Manifest) -> None:
        *keys, last = path.split("/")
        inner: Any = manifest
        for key in keys:
            inner = inner[int(key)] if key.isdigit() else inner.setdefault(key, {})
        inner[last] = value

    return change


BREAKING = {
    "its name is a DNS-1035 label with room for a suffix": [
        put("metadata/name", "1slim"),
        put("metadata/name", "a" * 48),
    ],
    "a cluster of its own, or a selector": [lambda one: one["spec"].pop("rayClusterSpec")],
    "suspend needs shutdownAfterJobFinishes": [
        lambda one: one["spec"].update(suspend=True, shutdownAfterJobFinishes=False)
    ],
    "clusterSelector forbids suspend, backoffLimit and SidecarMode": [put("spec/clusterSelector", {"a": "b"})],
    "SidecarMode forbids a submitter's template and settings, and a head that is restarted": [
        lambda one: one["spec"].update(submissionMode="SidecarMode", submitterConfig={})
    ],
    "InteractiveMode forbids backoffLimit": [put("spec/submissionMode", "InteractiveMode")],
    "the submission mode is known": [put("spec/submissionMode", "http")],
    "ttlSecondsAfterFinished needs shutdownAfterJobFinishes": [
        lambda one: one["spec"].update(ttlSecondsAfterFinished=9, shutdownAfterJobFinishes=False)
    ],
    "shutdownAfterJobFinishes excludes deletion rules": [put("spec/deletionStrategy", {"deletionRules": [{}]})],
    "limits and deadlines are positive": [put("spec/backoffLimit", -1), put("spec/activeDeadlineSeconds", 0)],
    "tokens of Kubernetes are not for RayJobs": [put("spec/rayClusterSpec/authOptions/enableK8sTokenAuth", True)],
    "every group has a container": [
        lambda one: one["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"].update(containers=[])
    ],
    "a group's sizes are given, and in order": [put("spec/rayClusterSpec/workerGroupSpecs/0/minReplicas", 99)],
    "resources of a group are given in one way": [put("spec/rayClusterSpec/headGroupSpec/resources", {"CPU": "1"})],
    "labels are no parameter of ray start": [put("spec/rayClusterSpec/headGroupSpec/rayStartParams/labels", "a=b")],
    "tokens need Ray 2.52": [put("spec/rayClusterSpec/rayVersion", "2.51.9")],
    "tokens of Kubernetes need Ray 2.55, the mode token, and no secret": [
        put("spec/rayClusterSpec/authOptions/enableK8sTokenAuth", True)
    ],
    "networkPolicy and tlsOptions are behind feature gates": [put("spec/rayClusterSpec/tlsOptions", {"enabled": True})],
}


@pytest.mark.parametrize("rule", [*JOB_RULES, *CLUSTER_RULES])
def test_a_manifest_that_breaks_a_rule_is_found(shared: Job, rule: str) -> None:
    for change in BREAKING[rule]:
        manifest = copy.deepcopy(ray_job(shared))
        change(manifest)
        assert rule in broken(manifest)


def test_the_driver_runs_the_job_that_lies_beside_it(shared: Job) -> None:
    config_map, manifest = manifests(shared)
    assert Job.model_validate_json(config_map["data"]["job.json"]) == shared
    assert shlex.split(manifest["spec"]["entrypoint"])[:3] == ["espalier", "run", JOB_FILE]
    head = pods(manifest)[0]
    (volume,) = (one for one in head["volumes"] if one["name"] == "job")
    assert volume["configMap"]["name"] == config_map["metadata"]["name"]
    (mount,) = (one for one in head["containers"][0]["volumeMounts"] if one["name"] == "job")
    assert Path(JOB_FILE).parent == Path(mount["mountPath"])


def test_another_job_has_another_config_map_so_that_a_repeated_driver_reads_its_own(shared: Job) -> None:
    names = {manifests(one)[0]["metadata"]["name"] for one in (shared, shared.model_copy(update={"seed": 5}))}
    assert len(names) == 2


def test_workers_are_spread_over_equal_pods(shared: Job) -> None:
    for settings, expected in ((), (2, "8", "32", "256Gi")), (("deploy.workers_per_pod=2",), (8, "2", "8", "64Gi")):
        (group,) = ray_job(shared, *settings)["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        found = group["replicas"], limits["nvidia.com/gpu"], group["rayStartParams"]["num-cpus"], limits["memory"]
        assert found == expected
    assert "deploy.workers_per_pod` is 3; allowed: a divisor of workers.count" in refusal(
        shared, "deploy.workers_per_pod=3"
    )


@pytest.mark.parametrize("path", [None, *sorted(SAMPLE.glob("ray_*.yaml"))], ids=str)
def test_pods_run_as_an_ordinary_user_on_a_read_only_root(shared: Job, path: Path | None) -> None:
    manifest = ray_job(shared) if path is None else list(yaml.safe_load_all(path.read_text()))[-1]
    for pod in pods(manifest):
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
        assert not pod["automountServiceAccountToken"]
        (container,) = pod["containers"]
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert {"/tmp", "/dev/shm", "/shared"} <= {one["mountPath"] for one in container["volumeMounts"]}
        assert container["readinessProbe"]["httpGet"]["path"] == "/api/healthz" and container["livenessProbe"]


def test_secrets_stand_in_it_by_name_alone(shared: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "c" * 40)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "d" * 64)
    text = dry_run(shared, "kuberay", ())
    assert "c" * 40 not in text and "d" * 64 not in text
    cluster = ray_job(shared)["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": "espalier-ray-token"}
    secret = [one for pod in pods(ray_job(shared)) for one in pod["containers"][0]["env"] if "valueFrom" in one]
    assert [one["name"] for one in secret] == ["WANDB_API_KEY"], "the head's, not the workers'"


def test_pods_that_are_asked_to_go_wait_for_the_run_to_save(shared: Job) -> None:
    head, worker = pods(ray_job(shared))
    hook = head["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert hook == ["espalier", "stop", "/shared/runs/slim", "--preempted"]
    assert "/shared/runs/slim/stop.json" in worker["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    longest = shared.retry.grace_seconds + 120
    assert head["terminationGracePeriodSeconds"] == worker["terminationGracePeriodSeconds"] >= longest
    (wait,) = (one for one in head["containers"][0]["env"] if one["name"] == "RAY_JOB_STOP_WAIT_TIME_S")
    assert float(wait["value"]) >= longest, "Ray's own stop kills after 3 seconds otherwise"


@pytest.mark.parametrize(
    ("change", "settings", "told"),
    [
        ({"name": "slim.v2"}, (), "deploy.name"),
        ({"storage": "/tmp/runs"}, (), "a folder that the image does not use"),
        ({}, ("deploy.mount=/data",), "`deploy.mount`"),
        ({"seeds": 3}, (), "one manifest for each seed"),
        ({}, ("deploy.imag=a",), "Did you mean `image`?"),
        ({}, ("deploy.claim=a;b",), "`deploy.claim`"),
        ({}, ("deploy.memory_each=64",), "`deploy.memory_each`"),
    ],
)
def test_what_a_pod_cannot_have_is_refused(
    shared: Job, change: dict[str, object], settings: tuple[str, ...], told: str
) -> None:
    assert told in refusal(shared.model_copy(update=change), *settings)


def test_a_kueue_queue_holds_the_job_back(shared: Job) -> None:
    manifest = ray_job(shared, "deploy.queue=team-a")
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a" and manifest["spec"]["suspend"]


def test_settings_have_words_for_people() -> None:
    assert read_settings(KubeRaySettings, ["deploy.image=ghcr.io/a/espalier:gpu"]).image == "ghcr.io/a/espalier:gpu"


def test_the_resolved_job_is_kept_readable(shared: Job) -> None:
    assert '\n    {\n      "name": "slim"' in dry_run(shared, "kuberay", ())
    assert json.loads(manifests(shared)[0]["data"]["job.json"])["workers"]["count"] == 16
