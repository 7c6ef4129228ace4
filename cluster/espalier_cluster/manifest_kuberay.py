"""A KubeRay RayJob for a job: its cluster, its driver, and how both go on after a failure (KubeRay 1.7).

The operator submits the driver itself (HTTPMode), so no pod of a submitter has to stay alive, and submits it again when
the head was replaced. A failed run gets a new cluster, `retries` times; the driver goes on from the run's folder.
Before a pod goes (a drain, `suspend`, a deletion) its hook has the run save.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import yaml

from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import Job
from espalier.jobs.schema import resolved
from espalier.stages.run_folder import RunFolder
from espalier_cluster.manifest_pods import PodShape, head_pod, worker_pod
from espalier_cluster.manifest_settings import KubeRaySettings, workers_per_node

JOB_FILE = "/etc/espalier/job.json"

_LONGEST_NAME = 47  # the operator appends a suffix for the RayCluster
_MAX_JOB_BYTES = 900_000  # of a ConfigMap with 1 MiB
_MORE_SECONDS = 150  # beyond the job's own grace: the driver closes its trackers and writes its report
_STORE_BYTES = 256 * 2**20  # for orders and results; tensors never travel through Ray
_OURS = ("/tmp", "/dev", "/etc", "/proc", "/sys", "/usr", "/bin", "/lib", "/opt")

Manifest = dict[str, Any]


class _Dumper(yaml.SafeDumper):
    pass


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def kuberay_yaml(job: Job, settings: KubeRaySettings) -> str:
    """The manifest as YAML: a ConfigMap with the job and the RayJob, or a RayCluster that such jobs fit on.

    Raises:
        RefusedInput: a name, a mount or a number of workers that KubeRay, or a pod, cannot have.
    """
    needs = f"# Needs the Secret {settings.token_secret} and the PersistentVolumeClaim {settings.claim}.\n"
    make = ray_job if settings.kind == "RayJob" else ray_cluster
    return needs + as_yaml(make(job, settings))


def as_yaml(manifests: Iterable[Manifest]) -> str:
    """Manifests as one YAML text; what has several lines is written as such."""
    return yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, width=120)


def ray_cluster(job: Job, settings: KubeRaySettings) -> list[Manifest]:
    """A RayCluster that outlives runs."""
    metadata = _metadata(settings.name or "espalier", settings)
    spec = _cluster_spec(job, settings, config_map=None)
    return [{"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": metadata, "spec": spec}]


def ray_job(job: Job, settings: KubeRaySettings) -> list[Manifest]:
    """A ConfigMap with the job, and a RayJob that runs it."""
    name = settings.name or _name(job)
    if job.seeds > 1:
        allowed = "1: apply one manifest for each seed (seed=0 deploy.name=... name=...)"
        raise RefusedInput([Fault("seeds", job.seeds, allowed)])
    content = json.dumps(resolved(job), indent=2, allow_nan=False)
    if len(content.encode()) > _MAX_JOB_BYTES:
        raise RefusedInput([Fault("job", None, f"at most {_MAX_JOB_BYTES} bytes", given="is too long for a ConfigMap")])
    config = f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(config, settings),
        "immutable": True,
        "data": {"job.json": content},
    }
    folder = RunFolder.of(job).path
    metadata = _metadata(name, settings)
    if settings.queue is not None:
        metadata["labels"]["kueue.x-k8s.io/queue-name"] = settings.queue
    spec = {
        "submissionMode": "HTTPMode",
        "entrypoint": shlex.join(["espalier", "run", JOB_FILE, "--address", "auto", "--scheduled"]),
        "metadata": {"run": job.name, "run_folder": str(folder)},
        "shutdownAfterJobFinishes": True,
        "backoffLimit": settings.retries,
        **({"suspend": True} if settings.queue is not None else {}),
        "rayClusterSpec": _cluster_spec(job, settings, config_map=config),
    }
    return [config_map, {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": spec}]


def _cluster_spec(job: Job, settings: KubeRaySettings, *, config_map: str | None) -> Manifest:
    """The spec of a RayCluster for a job: a head that computes nothing, and one group of equal worker pods.

    Args:
        config_map: with the job that the head's driver runs; None for a cluster that outlives jobs.
    """
    each = workers_per_node(job, settings.workers_per_pod, path="deploy.workers_per_pod")
    num_pods = job.workers.count // each
    shape = _shape(job, settings, is_of_one_run=config_map is not None)
    gpus = {"num-gpus": str(each * job.workers.gpus_each)} if job.workers.gpus_each else {}
    store = {"object-store-memory": str(_STORE_BYTES)}
    group = {
        "groupName": "workers",
        "replicas": num_pods,
        "minReplicas": num_pods,
        "maxReplicas": num_pods,
        "rayStartParams": {"num-cpus": str(each * job.workers.cpus_each), **gpus, **store},
        "template": worker_pod(shape, job.workers, settings, num_workers=each),
    }
    return {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token", "secretName": settings.token_secret},
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "num-gpus": "0", "dashboard-host": "0.0.0.0", **store},
            "template": head_pod(shape, settings, config_map=config_map),
        },
        "workerGroupSpecs": [group],
    }


def _shape(job: Job, settings: KubeRaySettings, *, is_of_one_run: bool) -> PodShape:
    folder = RunFolder.of(job).path
    mount = settings.mount or "/" + job.storage.strip("/").partition("/")[0]
    if not (folder.is_relative_to(mount) and mount != "/"):
        raise RefusedInput([Fault("deploy.mount", mount, f"a folder that storage ({job.storage}) lies in")])
    if any(mount == one or mount.startswith(f"{one}/") for one in _OURS):
        allowed = f"a folder that the image does not use; {mount} is its own: give deploy.mount=..., or another storage"
        raise RefusedInput([Fault("storage", job.storage, allowed)])
    return PodShape(
        image=settings.image or ("espalier:gpu" if job.workers.gpus_each else "espalier:cpu"),
        mount=mount,
        storage=job.storage,
        run_folder=folder if is_of_one_run else None,
        grace_seconds=int(job.retry.grace_seconds) + _MORE_SECONDS,
    )


def _name(job: Job) -> str:
    try:
        KubeRaySettings(name=job.name)
    except ValueError:
        allowed = (
            f"at most {_LONGEST_NAME} lower-case letters, digits and dashes, a letter first, as the RayJob is called "
            "the same; or give it another name: deploy.name=..."
        )
        raise RefusedInput([Fault("name", job.name, allowed)]) from None
    return job.name


def _metadata(name: str, settings: KubeRaySettings) -> Manifest:
    place = {} if settings.namespace is None else {"namespace": settings.namespace}
    return {"name": name, **place, "labels": {"app.kubernetes.io/name": "espalier"}}
