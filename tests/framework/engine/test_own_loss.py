"""A loss of another package, found through an entry point: in a job file, under every rank and level, through a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from espalier.checkpoint.read import StateReader
from espalier.config.losses import LOSSES
from espalier.distributed.world import World
from espalier.engine.frozen import FrozenModel
from espalier.objectives.terms import Term
from espalier.storage.local import LocalStorage
from framework.engine.own_loss import Confident
from support.invariance import Case, Outcome, difference, join, save_models, sequences_of, steps_of
from support.spawn import run_ranks
from support.tiny import tiny_job, write_job

SETTINGS = Confident(function="confident_cross_entropy", power=0.5)
TERMS = (Term(SETTINGS),)
_ONE = [Case(level, 4, tied=False, teacher="none", terms=TERMS) for level in ("none", "gradients")]
_TWO = [Case(level, 2, tied=False, teacher="none", terms=TERMS) for level in ("none", "gradients")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installer leaves of a package that brings a loss."""
    site = tmp_path_factory.mktemp("site")
    facts = site / "confident-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: confident\nVersion: 1.0\n")
    entry = f"{SETTINGS.function} = framework.engine.own_loss:CONFIDENT"
    (facts / "entry_points.txt").write_text(f"[espalier.losses]\n{entry}\n")
    return site


def steps_with(world: World, site: str, root: str, cases: list[Case]) -> list[tuple[float, float, list[Any]]]:
    """`steps_of` on a rank where the package is installed."""
    sys.path.insert(0, site)
    LOSSES.__dict__.pop("_found", None)  # the process that this one was forked from has looked already
    return steps_of(world, root, cases)


def naive(root: Path) -> Outcome:
    """All logits at once, autograd through everything."""
    storage, world = LocalStorage(root), World(rank=0, size=1, device=torch.device("cpu"))
    (batch,) = sequences_of(8, world)
    student, teacher = (
        FrozenModel(StateReader.open(storage, name), zero_level="none", dtype=torch.float32, world=world).network
        for name in ("untied", "teacher")
    )
    student.requires_grad_(True)
    column = batch.labels.clamp(min=0)[..., None]
    logits, answers = (network(batch, torch.nn.functional.linear) for network in (student, teacher))
    sure = answers.detach().softmax(-1).gather(-1, column)[..., 0] ** 0.5
    values = -sure * logits.softmax(-1).gather(-1, column)[..., 0].log()
    loss = (values * batch.token_mask * batch.sample_weights[:, None]).sum() / batch.token_mask.sum()
    loss.backward()
    gradients = {name: one.grad.flatten() for name, one in student.model.named_parameters()}
    return Outcome(loss.item(), float(torch.cat(list(gradients.values())).norm()), gradients)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, site: Path) -> dict[tuple[int, Case], Outcome]:
    root = tmp_path_factory.mktemp("models")
    save_models(root)
    found: dict[tuple[int, Case], Outcome] = {(0, _ONE[0]): naive(root)}
    for ranks, cases in ((1, _ONE), (2, _TWO)):
        joined = join(run_ranks(steps_with, ranks, str(site), str(root), cases))
        found |= {(ranks, case): outcome for case, outcome in zip(cases, joined, strict=True)}
    return found


@pytest.mark.parametrize(("ranks", "case"), [*((1, case) for case in _ONE), *((2, case) for case in _TWO)])
def test_equals_the_naive_gradient(outcomes: dict[tuple[int, Case], Outcome], ranks: int, case: Case) -> None:
    assert difference(outcomes[ranks, case], outcomes[0, _ONE[0]]) < 1e-5


def python(site: Path, code: str, *arguments: str) -> str:
    """What a fresh interpreter prints in which the package is installed."""
    path = f"import sys; sys.path[:0] = {[str(site), *sys.path]!r}\n"
    done = subprocess.run([sys.executable, "-c", path + code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def job_with(root: Path, loss: dict[str, Any]) -> Path:
    stages = tiny_job(root)["stages"]
    stages[2] |= {"losses": [loss]}
    return write_job(root, stages=stages[:3])


def test_a_job_is_run_with_it(site: Path, tmp_path: Path) -> None:
    job = job_with(tmp_path, {"function": "confident_cross_entropy", "power": 2.0})
    code = (
        "import json; from pathlib import Path; from support.whole_run import recorded_steps, run_here\n"
        "folder, results = run_here(Path(sys.argv[1]))\n"
        "print(json.dumps([results['heal'], recorded_steps(folder.path)[-1], "
        "folder.read_job().stages[2].model_dump(mode='json')['losses']]))"
    )
    result, last, losses = json.loads(python(site, code, str(job)).splitlines()[-1])
    assert result["status"] == "done" and last["terms"].keys() == {"confident_cross_entropy"}
    assert losses == [{"function": "confident_cross_entropy", "weight": 1.0, "power": 2.0}]


def test_schema_help_and_faults_know_it(site: Path, tmp_path: Path) -> None:
    job = job_with(tmp_path, {"function": "confident_cross_entrpy", "power": 2.0})
    code = (
        "import json; from pathlib import Path; from espalier.config.faults import RefusedInput\n"
        "from espalier.jobs.load import read_job; from espalier.jobs.schema import job_schema\n"
        "from espalier.jobs.settings import topics\n"
        "assert 'torch' not in sys.modules\n"
        "try: read_job(Path(sys.argv[1]))\n"
        "except RefusedInput as refused: said = str(refused)\n"
        "print(json.dumps([said, 'Confident' in job_schema()['$defs'], 'confident_cross_entropy' in topics()]))"
    )
    said, in_schema, in_help = json.loads(python(site, code, str(job)))
    assert "hidden_cosine, confident_cross_entropy. Did you mean `confident_cross_entropy`?" in said
    assert in_schema and in_help


def test_the_guide_shows_this_loss() -> None:
    guide = (Path(__file__).parents[3] / "framework" / "README.md").read_text()
    shown = guide.split("## Adding a loss")[1].split("```python\n")[1].split("```")[0]
    assert Path(__file__).with_name("own_loss.py").read_text().endswith(shown)
