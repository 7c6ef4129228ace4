"""The order queue, on an event loop of its own, without Ray."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import Pulse
from espalier.stages.orders import StageOrder
from espalier.stages.result import StageResult
from espalier_cluster.order_queue import GroupLost, OrderQueue, WorkerAddress

FIRST, SECOND = StageOrder("/run", "heal", 1), StageOrder("/run", "score", 1)
RESULT, OTHER = (StageResult("heal", "train", key, "done", None) for key in ("zero", "other"))


def with_queue(scene: Callable[[OrderQueue], Awaitable[None]], *, num_workers: int = 2) -> None:
    async def play() -> None:
        await asyncio.wait_for(scene(OrderQueue(num_workers)), timeout=5)

    asyncio.run(play())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def start_group(queue: OrderQueue) -> int:
    """Two ranks of a new group."""
    group = await queue.open_group()
    for rank in (0, 1):
        await queue.worker_started(group, WorkerAddress(rank, "node", 10 + rank))
    return group


def test_an_order_is_done_when_every_rank_has_reported_and_rank_zero_says_how() -> None:
    async def scene(queue: OrderQueue) -> None:
        outcome = asyncio.create_task(queue.carry_out(FIRST))
        group = await start_group(queue)
        assert await queue.next_order(group, after=0) == (1, FIRST)
        await queue.report(group, 0, RESULT)
        await settle()
        assert not outcome.done()
        await queue.report(group, 1, OTHER)
        assert await outcome == RESULT

    with_queue(scene)


def test_the_hosts_of_a_group_are_known_after_it_was_lost() -> None:
    async def scene(queue: OrderQueue) -> None:
        assert await queue.hosts() == {}
        group = await queue.open_group()
        for rank, host in enumerate("aba"):
            await queue.worker_started(group, WorkerAddress(rank, "node", 10 + rank, host))
        await queue.lose_group(StageFailed("worker_lost", "it is gone"))
        assert await queue.hosts() == {"a": 2, "b": 1}
        await queue.open_group()
        assert await queue.hosts() == {}

    with_queue(scene, num_workers=3)


def test_a_rank_waits_for_the_next_order_and_never_gets_the_last_one_again() -> None:
    async def scene(queue: OrderQueue) -> None:
        group = await start_group(queue)
        first = asyncio.create_task(queue.carry_out(FIRST))
        await settle()
        waiting = asyncio.create_task(queue.next_order(group, after=1))
        await queue.report(group, 0, RESULT)
        await first
        await settle()
        assert not waiting.done()
        second = asyncio.create_task(queue.carry_out(SECOND))
        assert await waiting == (2, SECOND)
        assert not second.done(), "a report on the first order must not count for the second"
        await queue.report(group, 0, OTHER)
        assert await second == OTHER

    with_queue(scene, num_workers=1)


def test_the_first_failure_of_a_group_is_reported_and_the_lost_group_gets_no_orders() -> None:
    async def scene(queue: OrderQueue) -> None:
        group = await start_group(queue)
        outcome = asyncio.create_task(queue.carry_out(FIRST))
        await settle()
        await queue.lose_group(StageFailed("worker_lost", "worker 1 died"))
        await queue.lose_group(StageFailed("error", "and then all the others"))
        failure = await outcome
        assert isinstance(failure, StageFailed) and failure.message == "worker 1 died"
        second = asyncio.create_task(queue.carry_out(SECOND))
        await settle()
        await queue.lose_group(StageFailed("error", "told late, of the group that is lost already"))
        for asked in (queue.next_order(group, after=1), queue.worker_started(group, WorkerAddress(0, "node", 10))):
            with pytest.raises(GroupLost):
                await asked
        assert await queue.beat(group, 0, Pulse("step", 0.0, None)) == "leave"
        await settle()
        assert not second.done() and await queue.num_started_workers() == 0 and await queue.end_hang() is None
        second.cancel()

    with_queue(scene)


def test_after_a_loss_the_new_group_gets_the_next_order_and_reports_of_the_old_one_are_ignored() -> None:
    async def scene(queue: OrderQueue) -> None:
        old = await start_group(queue)
        first = asyncio.create_task(queue.carry_out(FIRST))
        assert await queue.next_order(old, after=0) == (1, FIRST)
        await queue.lose_group(StageFailed("worker_lost", "worker 1 died"))
        assert isinstance(await first, StageFailed)
        second = asyncio.create_task(queue.carry_out(SECOND))
        await settle()
        group = await start_group(queue)
        for rank in (0, 1):
            assert await queue.next_order(group, after=0) == (2, SECOND)
            await queue.report(old, rank, OTHER)
        await settle()
        assert not second.done()
        for rank in (0, 1):
            await queue.report(group, rank, RESULT)
        assert await second == RESULT

    with_queue(scene)


def test_the_order_of_a_group_that_ray_replaces_silently_fails() -> None:
    async def scene(queue: OrderQueue) -> None:
        outcome = asyncio.create_task(queue.carry_out(FIRST))
        await start_group(queue)
        group = await start_group(queue)
        await settle()
        assert not outcome.done(), "nobody had begun it"
        await queue.next_order(group, after=0)
        await start_group(queue)
        failure = await outcome
        assert isinstance(failure, StageFailed) and failure.cause == "worker_lost"

    with_queue(scene)


def test_a_stop_request_ends_with_its_order() -> None:
    async def scene(queue: OrderQueue) -> None:
        group = await start_group(queue)
        outcome = asyncio.create_task(queue.carry_out(FIRST))
        await settle()
        await queue.ask_to_stop()
        assert await queue.beat(group, 0, Pulse("step", 0.0, None)) == "stop"
        await queue.lose_group(StageFailed("worker_lost", "worker 1 died"))
        await outcome
        second = asyncio.create_task(queue.carry_out(SECOND))
        await settle()
        assert await queue.beat(await start_group(queue), 0, Pulse("step", 0.0, None)) == "go on"
        second.cancel()

    with_queue(scene)


def test_a_hang_is_reported_once_with_the_addresses_of_its_workers() -> None:
    async def scene(queue: OrderQueue) -> None:
        group = await start_group(queue)
        outcome = asyncio.create_task(queue.carry_out(FIRST))
        await settle()
        for rank in (0, 1):
            await queue.beat(group, rank, Pulse("step", 100.0, 0.1))
        found = await queue.end_hang()
        assert found is not None and [address.pid for address in found[1]] == [10, 11]
        failure = await outcome
        assert isinstance(failure, StageFailed) and failure.cause == "hang"
        assert await queue.end_hang() is None

    with_queue(scene)


def test_a_rank_that_fails_after_rank_zero_has_reported_still_fails_the_order() -> None:
    async def scene(queue: OrderQueue) -> None:
        group = await start_group(queue)
        outcome = asyncio.create_task(queue.carry_out(FIRST))
        await settle()
        await queue.report(group, 0, RESULT)
        await queue.lose_group(StageFailed("error", "rank 1 could not close its engine"))
        assert isinstance(await outcome, StageFailed)

    with_queue(scene)


def test_a_closed_queue_answers_none_to_waiting_and_later_ranks() -> None:
    async def scene(queue: OrderQueue) -> None:
        group = await start_group(queue)
        waiting = asyncio.create_task(queue.next_order(group, after=0))
        await settle()
        assert await queue.close()
        assert await waiting is None
        order = asyncio.create_task(queue.carry_out(FIRST))
        await settle()
        assert await queue.next_order(group, after=0) is None
        order.cancel()

    with_queue(scene)


def test_each_started_rank_is_counted_once() -> None:
    async def scene(queue: OrderQueue) -> None:
        group = await queue.open_group()
        for rank in (0, 2, 0):
            await queue.worker_started(group, WorkerAddress(rank, "node", rank))
        assert await queue.num_started_workers() == 2

    with_queue(scene, num_workers=3)
