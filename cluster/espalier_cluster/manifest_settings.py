"""Settings of manifests: what a scheduler has to know beside the job. Given as `deploy.<name>=value` after the job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, create_model

from espalier.config.base import Config, Words
from espalier.config.document import Document
from espalier.config.explain import faults_of
from espalier.config.faults import Fault, RefusedInput
from espalier.config.overrides import apply_overrides
from espalier.config.paths import Folder
from espalier.jobs.job import Job

PREFIX = "deploy."

_MOST_PER_NODE = 8  # the usual number of GPUs of a node
_AS_TEXT = BeforeValidator(lambda value: str(value) if type(value) is int else value)
_Label = Annotated[
    str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63), Words("lower-case letters, digits and dashes")
]
_Text = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@=,+-]*$", max_length=255)]
_Size = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}(Mi|Gi|Ti)$"), Words("a size as 512Mi or 64Gi")]
_Number = Annotated[int, Field(ge=1, le=1024)]
_Pair = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9./_-]{0,250}=[A-Za-z0-9._-]{1,63}$"), Words("label=value")]


class KubeRaySettings(Config):
    """Settings of a KubeRay manifest."""

    kind: Literal["RayJob", "RayCluster"] = "RayJob"
    """A cluster for this run alone, or one that takes runs by `submit` and outlives them."""
    name: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=47)] | None = None
    """Left out: the job's name; of a RayCluster `espalier`."""
    namespace: _Label | None = None
    image: _Text | None = None
    """Left out: espalier:gpu, or espalier:cpu where workers have no GPU."""
    claim: _Label = "espalier-storage"
    """The PersistentVolumeClaim (ReadWriteMany) with the storage, the data and the models."""
    mount: Folder | None = None
    """Where the claim is mounted; left out: the first folder of `storage`."""
    token_secret: _Label = "espalier-ray-token"
    """The Secret with Ray's token under the key `auth_token`."""
    wandb_secret: _Label = "espalier-wandb"
    """The Secret with a W&B key under the key `api_key`; it may be missing."""
    workers_per_pod: _Number | None = None
    """A divisor of workers.count; left out: the largest one up to 8."""
    memory_each: _Size = "32Gi"
    """Host memory of each worker."""
    head_memory: _Size = "8Gi"
    shared_memory: _Size = "8Gi"
    """Size of /dev/shm, which NCCL uses; counts as memory of the pod."""
    retries: Annotated[int, Field(ge=0, le=1000)] = 10
    """How often KubeRay starts a new cluster after a failure."""
    node_selector: _Pair | None = None
    """A label that the nodes of the workers have."""
    queue: _Text | None = None
    """A local queue of Kueue."""


class SlurmSettings(Config):
    """Settings of a Slurm script."""

    time: Annotated[str, _AS_TEXT, Field(pattern=r"^[0-9]{1,4}(-[0-9]{1,2})?(:[0-9]{2}){0,2}$")] = "24:00:00"
    """After this the job saves, and is queued again."""
    partition: _Text | None = None
    account: _Text | None = None
    memory: Annotated[str, _AS_TEXT, Field(pattern=r"^[0-9]{1,9}[KMGT]?$")] | None = None
    """Of each node; 0 is all that it has."""
    workers_per_node: _Number | None = None
    """A divisor of workers.count; left out: the largest one up to 8."""
    environment: Folder | None = None
    """A virtual environment on every node; left out: `espalier` and `ray` are on the PATH."""


Settings = TypeVar("Settings", KubeRaySettings, SlurmSettings)


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides of the job, and those of the manifest."""
    deploy = [one for one in overrides if one.startswith(PREFIX)]
    return [one for one in overrides if one not in deploy], deploy


def read_settings(kind: type[Settings], overrides: Sequence[str]) -> Settings:
    """The settings of a manifest.

    Args:
        overrides: `deploy.name=value`.

    Raises:
        RefusedInput: unknown settings or wrong values, all at once.
    """
    root = create_model("Deploy", __base__=Config, deploy=(kind, kind()))
    document = apply_overrides(Document({}, {}), overrides)
    try:
        return root.model_validate(document.values).deploy  # type: ignore[attr-defined]
    except ValidationError as error:
        raise RefusedInput(faults_of(error, document, root)) from None


def workers_per_node(job: Job, asked: int | None, *, path: str) -> int:
    """How many workers share a node: what was asked for, or the largest divisor of their number up to 8.

    Raises:
        RefusedInput: the nodes would not be equal.
    """
    count = job.workers.count
    if asked is None:
        return max(number for number in range(1, _MOST_PER_NODE + 1) if count % number == 0)
    if count % asked:
        raise RefusedInput([Fault(path, asked, f"a divisor of workers.count ({count}), as all nodes are equal")])
    return asked
