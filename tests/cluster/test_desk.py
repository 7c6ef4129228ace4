"""The desk, on an event loop of its own: no Ray."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from espalier.stages.control import Pulse
from espalier.stages.orders import StageFailed, StageOrder
from espalier.stages.result import StageResult
from espalier_cluster.desk import Chair, Desk, GroupLost

FIRST, SECOND = StageOrder("/run", "heal", 1), StageOrder("/run", "score", 1)
RESULT, OTHER = (StageResult("heal", "train", key, "done", None) for key in ("zero", "other"))


def with_desk(scene: Callable[[Desk], Awaitable[None]], *, num_workers: int = 2) -> None:
    async def play() -> None:
        await asyncio.wait_for(scene(Desk(num_workers)), timeout=5)

    asyncio.run(play())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def seat(desk: Desk) -> int:
    """Two ranks of a new group."""
    group = await desk.open_group()
    for rank in (0, 1):
        await desk.sit_down(group, Chair(rank, "node", 10 + rank))
    return group


def test_an_order_is_done_when_every_rank_has_reported_and_rank_zero_says_how() -> None:
    async def scene(desk: Desk) -> None:
        outcome = asyncio.create_task(desk.carry_out(FIRST))
        group = await seat(desk)
        assert await desk.next_order(group, after=0) == (1, FIRST)
        await desk.report(group, 0, RESULT)
        await settle()
        assert not outcome.done()
        await desk.report(group, 1, OTHER)
        assert await outcome == RESULT

    with_desk(scene)


def test_a_rank_waits_for_the_next_order_and_never_gets_the_last_one_again() -> None:
    async def scene(desk: Desk) -> None:
        group = await seat(desk)
        first = asyncio.create_task(desk.carry_out(FIRST))
        await settle()
        waiting = asyncio.create_task(desk.next_order(group, after=1))
        await desk.report(group, 0, RESULT)
        await first
        await settle()
        assert not waiting.done()
        second = asyncio.create_task(desk.carry_out(SECOND))
        assert await waiting == (2, SECOND)
        assert not second.done(), "a report on the first order must not count for the second"
        await desk.report(group, 0, OTHER)
        assert await second == OTHER

    with_desk(scene, num_workers=1)


def test_the_first_reason_of_a_loss_is_the_one_told_and_its_group_is_told_nothing_more() -> None:
    async def scene(desk: Desk) -> None:
        group = await seat(desk)
        outcome = asyncio.create_task(desk.carry_out(FIRST))
        await settle()
        await desk.lose(StageFailed("worker_lost", "worker 1 died"))
        await desk.lose(StageFailed("error", "and then all the others"))
        failure = await outcome
        assert isinstance(failure, StageFailed) and failure.message == "worker 1 died"
        second = asyncio.create_task(desk.carry_out(SECOND))
        await settle()
        await desk.lose(StageFailed("error", "told late, of the group that is lost already"))
        for asked in (desk.next_order(group, after=1), desk.sit_down(group, Chair(0, "node", 10))):
            with pytest.raises(GroupLost):
                await asked
        assert await desk.beat(group, 0, Pulse("step", 0.0, None)) == "leave"
        await settle()
        assert not second.done() and await desk.num_seated() == 0 and await desk.end_hang() is None
        second.cancel()

    with_desk(scene)


def test_after_a_loss_the_next_order_goes_to_the_new_group_and_the_old_one_is_not_heard() -> None:
    async def scene(desk: Desk) -> None:
        old = await seat(desk)
        first = asyncio.create_task(desk.carry_out(FIRST))
        assert await desk.next_order(old, after=0) == (1, FIRST)
        await desk.lose(StageFailed("worker_lost", "worker 1 died"))
        assert isinstance(await first, StageFailed)
        second = asyncio.create_task(desk.carry_out(SECOND))
        await settle()
        group = await seat(desk)
        for rank in (0, 1):
            assert await desk.next_order(group, after=0) == (2, SECOND)
            await desk.report(old, rank, OTHER)
        await settle()
        assert not second.done()
        for rank in (0, 1):
            await desk.report(group, rank, RESULT)
        assert await second == RESULT

    with_desk(scene)


def test_a_group_that_ray_replaces_without_a_word_has_lost_the_order_that_it_was_given() -> None:
    async def scene(desk: Desk) -> None:
        outcome = asyncio.create_task(desk.carry_out(FIRST))
        await seat(desk)
        group = await seat(desk)
        await settle()
        assert not outcome.done(), "nobody had begun it"
        await desk.next_order(group, after=0)
        await seat(desk)
        failure = await outcome
        assert isinstance(failure, StageFailed) and failure.cause == "worker_lost"

    with_desk(scene)


def test_a_wish_to_stop_is_of_one_order() -> None:
    async def scene(desk: Desk) -> None:
        group = await seat(desk)
        outcome = asyncio.create_task(desk.carry_out(FIRST))
        await settle()
        await desk.ask_to_stop()
        assert await desk.beat(group, 0, Pulse("step", 0.0, None)) == "stop"
        await desk.lose(StageFailed("worker_lost", "worker 1 died"))
        await outcome
        second = asyncio.create_task(desk.carry_out(SECOND))
        await settle()
        assert await desk.beat(await seat(desk), 0, Pulse("step", 0.0, None)) == "go on"
        second.cancel()

    with_desk(scene)


def test_a_hang_is_told_once_with_the_places_of_its_workers() -> None:
    async def scene(desk: Desk) -> None:
        group = await seat(desk)
        outcome = asyncio.create_task(desk.carry_out(FIRST))
        await settle()
        for rank in (0, 1):
            await desk.beat(group, rank, Pulse("step", 100.0, 0.1))
        found = await desk.end_hang()
        assert found is not None and [chair.pid for chair in found[1]] == [10, 11]
        failure = await outcome
        assert isinstance(failure, StageFailed) and failure.cause == "hang"
        assert await desk.end_hang() is None

    with_desk(scene)


def test_a_rank_that_fails_after_rank_zero_has_reported_still_fails_the_order() -> None:
    async def scene(desk: Desk) -> None:
        group = await seat(desk)
        outcome = asyncio.create_task(desk.carry_out(FIRST))
        await settle()
        await desk.report(group, 0, RESULT)
        await desk.lose(StageFailed("error", "rank 1 could not close its engine"))
        assert isinstance(await outcome, StageFailed)

    with_desk(scene)


def test_closing_sends_waiting_ranks_home_and_all_that_come_later() -> None:
    async def scene(desk: Desk) -> None:
        group = await seat(desk)
        waiting = asyncio.create_task(desk.next_order(group, after=0))
        await settle()
        assert await desk.close()
        assert await waiting is None
        order = asyncio.create_task(desk.carry_out(FIRST))
        await settle()
        assert await desk.next_order(group, after=0) is None
        order.cancel()

    with_desk(scene)


def test_ranks_are_counted_once_when_they_sit_down() -> None:
    async def scene(desk: Desk) -> None:
        group = await desk.open_group()
        for rank in (0, 2, 0):
            await desk.sit_down(group, Chair(rank, "node", rank))
        assert await desk.num_seated() == 2

    with_desk(scene, num_workers=3)
