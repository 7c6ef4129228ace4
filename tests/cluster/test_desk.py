"""The desk, on an event loop of its own: no Ray."""

import asyncio
from collections.abc import Awaitable, Callable

from espalier.stages.orders import StageFailed, StageOrder
from espalier.stages.result import StageResult
from espalier_cluster.desk import Chair, Desk

FIRST, SECOND = StageOrder("/run", "heal", 1), StageOrder("/run", "score", 1)
RESULT, OTHER = (StageResult("heal", "train", key, "done", None) for key in ("zero", "other"))


def with_desk(scene: Callable[[Desk], Awaitable[None]], *, num_workers: int = 2) -> None:
    async def play() -> None:
        await asyncio.wait_for(scene(Desk(num_workers)), timeout=5)

    asyncio.run(play())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_an_order_is_done_when_every_rank_has_reported_and_rank_zero_says_how() -> None:
    async def scene(desk: Desk) -> None:
        outcome = asyncio.create_task(desk.carry_out(FIRST))
        assert await desk.next_order(num_done=0) == FIRST
        await desk.report(0, RESULT)
        await settle()
        assert not outcome.done()
        await desk.report(1, OTHER)
        assert await outcome == RESULT

    with_desk(scene)


def test_a_rank_waits_for_the_next_order_and_never_gets_the_last_one_again() -> None:
    async def scene(desk: Desk) -> None:
        first = asyncio.create_task(desk.carry_out(FIRST))
        await settle()
        waiting = asyncio.create_task(desk.next_order(num_done=1))
        await desk.report(0, RESULT)
        await first
        await settle()
        assert not waiting.done()
        second = asyncio.create_task(desk.carry_out(SECOND))
        assert await waiting == SECOND
        assert not second.done(), "a report on the first order must not count for the second"
        await desk.report(0, OTHER)
        assert await second == OTHER

    with_desk(scene, num_workers=1)


def test_the_first_reason_of_a_loss_is_the_one_told() -> None:
    async def scene(desk: Desk) -> None:
        outcome = asyncio.create_task(desk.carry_out(FIRST))
        await settle()
        await desk.lose(StageFailed("worker_lost", "worker 1 died"))
        await desk.lose(StageFailed("error", "and then all the others"))
        failure = await outcome
        assert isinstance(failure, StageFailed) and failure.message == "worker 1 died"
        assert await desk.carry_out(SECOND) is failure, "a lost group takes no order"

    with_desk(scene)


def test_a_rank_that_fails_after_rank_zero_has_reported_still_fails_the_order() -> None:
    async def scene(desk: Desk) -> None:
        outcome = asyncio.create_task(desk.carry_out(FIRST))
        await settle()
        await desk.report(0, RESULT)
        await desk.lose(StageFailed("error", "rank 1 could not close its engine"))
        assert isinstance(await outcome, StageFailed)

    with_desk(scene)


def test_closing_sends_waiting_ranks_home_and_all_that_come_later() -> None:
    async def scene(desk: Desk) -> None:
        waiting = asyncio.create_task(desk.next_order(num_done=0))
        await settle()
        await desk.close()
        assert await waiting is None
        order = asyncio.create_task(desk.carry_out(FIRST))
        await settle()
        assert await desk.next_order(num_done=0) is None
        order.cancel()

    with_desk(scene)


def test_ranks_are_counted_once_when_they_sit_down() -> None:
    async def scene(desk: Desk) -> None:
        for rank in (0, 2, 0):
            await desk.sit_down(rank, Chair(rank, "node", rank))
        assert await desk.num_seated() == 2

    with_desk(scene, num_workers=3)
