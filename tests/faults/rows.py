"""The rows of the matrix: what is injected, what is expected, and what shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from espalier.stages.controller import ExitCode
from faults import scenes_command, scenes_storage
from faults.scenes_ray import RayScene

_HANG = 10.0 + 1.5  # the bound, a sign of life every half second, a look every half second
_SAVES = "tests/framework/checkpoint/test_checkpoint_"
_DAYS = "tests/framework/training/test_hard_days.py::test_"
_RUNNER = "tests/cluster/test_ray_runner.py::test_"
_NODES = "tests/cluster/test_two_nodes.py::test_"
_CHANGED = "tests/cluster/test_changed_settings.py::test_"
_KILLS = "tests/faults/test_kills.py::test_runs_killed_six_times_at_two_levels_come_to_the_same"


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        tests: files or `file::test`, run by pytest, all rows' together.
        scenes: played on the one cluster of the matrix.
        plays: take an empty folder, return what was seen; they raise when it is not what was expected.
        left_out: what cannot be shown here, and why.
    """

    name: str
    injected: str
    expected: str
    tests: tuple[str, ...] = ()
    scenes: tuple[RayScene, ...] = ()
    plays: tuple[Callable[[Path], str], ...] = ()
    left_out: str = ""


def _lost(fault: str, **wanted: object) -> RayScene:
    return RayScene(fault, ("worker_lost",), **wanted)  # type: ignore[arg-type]


ROWS: tuple[Row, ...] = (
    Row(
        "P1",
        "kill -9 of rank zero, another rank, both",
        "noticed within 1 s; the next attempt ends it, bit-equal",
        tests=("tests/cluster/test_killed_run.py::test_two_workers_through_ray_and_zero",),
        scenes=(_lost("kill-0", says="Worker 0"), _lost("kill-1", says="Worker 1"), _lost("kill-both")),
    ),
    Row("P2", "kill -9 in forward, accumulation, update, recording", "bit-equal", tests=(_KILLS,)),
    Row(
        "P3",
        "kill -9 of the driver, of the order queue, of Ray Train's process",
        "no worker after 10 s; the run goes on, or the same command does",
        tests=("tests/cluster/test_local_cluster.py::test_a_local_cluster_is_quiet_private_and_dies_with",),
        scenes=(
            _lost("queue", within=3.0, says="hands out the orders", kills="OrderQueue"),
            _lost("train", within=3.0, says="Ray Train ended", kills="_train"),
        ),
        plays=(scenes_command.driver_killed,),
    ),
    Row(
        "P4",
        "loss of a node",
        "goes on when there is room again; patience has an end",
        tests=(
            f"{_NODES}orders_continue_after_the_loss_of_a_node",
            f"{_NODES}waiting_for_a_node_ends_after_patience_seconds",
        ),
    ),
    Row(
        "P5",
        "kill -9 of the cluster's head (GCS)",
        "its step saved, exit code 75, and goes on",
        plays=(scenes_command.head_killed,),
    ),
    Row(
        "P6",
        "sys.exit(0), sys.exit(3), abort, segmentation fault",
        "a failure, told apart; the next attempt ends it",
        scenes=(
            RayScene("exit-0", ("error",), says="SystemExit: 0"),
            RayScene("exit-3", ("error",), says="SystemExit: 3"),
            _lost("abort", says="Worker 1"),
            _lost("segfault", within=5.0, says="Worker 1"),
        ),
    ),
    Row(
        "P7",
        "an exception on one rank",
        "the cause is told, not the broken connections",
        tests=("tests/cluster/test_failure.py",),
        scenes=(RayScene("raise", ("error",), says="seven is not a power of two"),),
    ),
    Row(
        "P8",
        "out of memory, again and again",
        "two tries, with advice",
        tests=("tests/cluster/test_failure.py::test_the_cause_of_a_death_is_read_from_rays_message",),
        scenes=(RayScene("memory", ("out_of_memory",) * 2, code=ExitCode.ERROR, says="smaller microbatch"),),
        left_out="Ray's memory monitor is not provoked: it watches the whole machine; its text is read in a test",
    ),
    Row(
        "P9",
        "the same exception at the same step",
        "stops after at most 3 tries",
        scenes=(RayScene("raise-always", ("error",) * 2, code=ExitCode.ERROR),),
    ),
    Row("C1", "kill at every call of a save", "old or new", tests=(f"{_SAVES}crash_points.py",)),
    Row(
        "C2",
        "a rank that has not written its part",
        "the old checkpoint stays the newest",
        tests=(
            f"{_SAVES}commit.py::test_every_rank_must_have_written",
            f"{_SAVES}steps.py::test_a_save_that_never_ended_is_no_checkpoint",
        ),
    ),
    Row("C3", "power cuts that lose what was not synced", "old or new", tests=(f"{_SAVES}power_cuts.py",)),
    Row(
        "C4",
        "a full disk",
        "stops, or goes on where told to; the old one is good",
        tests=(
            f"{_DAYS}a_full_disk_stops_the_run",
            f"{_DAYS}a_full_disk_costs_only",
            f"{_DAYS}the_last_checkpoint_must_succeed",
        ),
    ),
    Row(
        "C5",
        "EIO once; EROFS, EACCES, EDQUOT",
        "tried again; stops with its name, then goes on",
        plays=(scenes_storage.disk_says_no,),
    ),
    Row("C6", "slow storage", "fewer saves, told; steps go on", tests=(f"{_DAYS}a_slow_disk_makes_fewer",)),
    Row(
        "C7",
        "bit flips, cuts, swaps, foreign and newer files",
        "named, the one before it used; none loaded",
        tests=(f"{_SAVES}damage_matrix.py", f"{_SAVES}damage.py"),
    ),
    Row(
        "C8",
        "two controllers in one run folder",
        "the second is refused, with the holder",
        tests=(f"{_SAVES}run_lock.py", "tests/cluster/test_refused.py::test_a_run_that_another_process_holds"),
    ),
    Row(
        "C9",
        "kill in retention, loading, pruning, programs of saves",
        "done again, sources untouched",
        tests=(_KILLS, f"{_SAVES}programs.py", f"{_SAVES}steps.py::test_a_removal_stopped_half_way"),
    ),
    Row(
        "H1",
        "SIGSTOP of a rank",
        "found within the bound, named, ended; the run goes on",
        scenes=(RayScene("stop", ("hang",), within=_HANG, says="worker 1 was stopped from outside"),),
        tests=(f"{_RUNNER}a_stopped_worker_is_detected",),
    ),
    Row(
        "H2",
        "a rank that holds the interpreter's lock",
        "found from outside the process",
        scenes=(RayScene("interpreter", ("hang",), within=_HANG, says="no sign of life from 1"),),
    ),
    Row(
        "H3",
        "a rank that leaves out collectives",
        "found within the bound, with what each was at",
        scenes=(RayScene("skip", ("hang",), within=_HANG, says="worker 0 in step"),),
        left_out="another operation or shape in one rank is not told apart from a hang",
    ),
    Row(
        "H4",
        "a data loader's process dies",
        "error or restart",
        left_out="there are no such processes: text is tokenised once and mapped into each worker's memory",
    ),
    Row(
        "H5",
        "1,000 steps, some five times slower; pauses of one rank",
        "no alarm",
        tests=("tests/cluster/test_hang_detector.py",),
        scenes=(RayScene("slow"),),
    ),
    Row(
        "M1",
        "NaN in a loss, infinite gradient, on one rank",
        "one decision, samples named, none saved",
        tests=(
            f"{_DAYS}nan_stops_the_run",
            f"{_DAYS}a_skipped_step_is_left_out",
            f"{_DAYS}rolling_back",
            f"{_DAYS}a_stage_that_fails_again",
        ),
    ),
    Row(
        "M2",
        "a loss a hundred times the median",
        "left out as its policy says",
        tests=(f"{_DAYS}a_spike_is_left_out", f"{_DAYS}no_spike_is_detected"),
    ),
    Row(
        "S1",
        "SIGTERM to a worker, to the command",
        "saves at the end of the step; no failure",
        tests=(f"{_DAYS}a_stop_request_to_one_worker", f"{_RUNNER}sigterm_to_a_worker_is_a_preemption"),
        plays=(scenes_command.terminated,),
    ),
    Row(
        "S2",
        "SIGINT once, twice",
        "saves and stops; stops at once; 75, goes on",
        plays=(scenes_command.asked_once, scenes_command.asked_twice),
    ),
    Row(
        "T1",
        "kill between and inside stages",
        "each transition once, bit-equal",
        tests=(_KILLS, "tests/framework/stages/test_controller.py"),
    ),
    Row(
        "T2",
        "other settings at a resume",
        "the way: noted; the result: refused",
        tests=("tests/cluster/test_changed_settings.py", "tests/framework/planning/test_changes.py"),
    ),
    Row(
        "T3", "2, 1, 2 workers; other zero_level", "goes on, equal", tests=("tests/framework/training/test_elastic.py",)
    ),
    Row(
        "T4",
        "other text under the same name",
        "refused by its contents",
        tests=(
            f"{_CHANGED}other_text_under_the_same_name",
            "tests/framework/data/test_fingerprint.py",
            "tests/framework/data/test_weight_files.py",
        ),
    ),
    Row(
        "T5",
        "a teacher that is missing or has other words",
        "refused within 5 s",
        tests=("tests/cluster/test_refused_teacher.py",),
    ),
)
