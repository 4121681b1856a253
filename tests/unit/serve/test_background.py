"""What is done again and again survives what fails, says it once, and its end is noticed."""

import asyncio
import logging
import time
from collections.abc import Callable

import pytest

from data.log.errors import StoreUnavailable
from serve.background import Signal, check_tasks, repeat


class EnoughError(BaseException):
    """Ends what would go on for ever; it is no Exception, as a cancellation is none."""


def work(*outcomes: int | Exception) -> Callable[[], int]:
    """Return work that gives its outcomes one after the other, and then ends."""
    left = list(outcomes)

    def do() -> int:
        if not left:
            raise EnoughError
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return do


def test_what_fails_is_said_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    away, broken = StoreUnavailable("the database is starting up"), ValueError("odd")
    results = list[int]()

    async def then(result: int) -> None:
        results.append(result)

    caplog.set_level(logging.WARNING, "ray.serve")
    with pytest.raises(EnoughError):
        asyncio.run(repeat(work(1, away, away, 2, away, broken, broken, 3), 0.0, then))
    assert results == [1, 2, 3]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3  # twice that it is away, as it was back meanwhile, and once that it is broken
    assert said[0] == said[1] == "the log did not answer, trying again: the database is starting up"
    assert said[2].endswith("do failed, trying again")


def test_the_end_of_what_is_for_ever_is_noticed() -> None:
    async def check() -> None:
        going = asyncio.create_task(asyncio.Event().wait())
        ended = asyncio.create_task(asyncio.to_thread(int, "no number"))
        await asyncio.wait([ended])
        check_tasks([going], "it has stopped")  # type: ignore[list-item]
        with pytest.raises(RuntimeError, match="it has stopped: invalid literal"):
            check_tasks([going, ended], "it has stopped")  # type: ignore[list-item]
        going.cancel()

    asyncio.run(check())


async def wait(signal: Signal, happened: list[int], within_s: float = 10.0) -> bool:
    return await signal.wait_for(lambda: bool(happened), within_s)


def test_who_waits_is_woken_by_what_comes_true_and_by_nothing_else() -> None:
    async def course() -> None:
        signal, happened = Signal(), list[int]()
        waiting = [asyncio.create_task(wait(signal, happened)) for _ in range(2)]
        await asyncio.sleep(0)
        signal.send()
        assert not (await asyncio.wait(waiting, timeout=0.05))[0]
        happened.append(1)
        signal.send()
        assert await asyncio.gather(*waiting) == [True, True]
        assert await wait(signal, happened, 0.0)
        happened.clear()
        assert not await wait(signal, happened, 0.01)

    asyncio.run(course())


def test_waits_whose_time_is_over_and_whose_clients_have_gone_hold_up_nobody() -> None:
    """As after a process was stopped, which is told both at once."""

    async def course() -> None:
        for steps in range(8):
            signal, happened = Signal(), list[int]()
            gone = [asyncio.create_task(wait(signal, happened, 0.0001)) for _ in range(3)]
            await asyncio.sleep(0)
            time.sleep(0.001)
            for _ in range(steps):
                await asyncio.sleep(0)
            for one in gone:
                one.cancel()
            await asyncio.wait(gone)
            waiting = asyncio.create_task(wait(signal, happened))
            await asyncio.sleep(0)
            happened.append(1)
            signal.send()
            assert await asyncio.wait_for(waiting, 5)

    asyncio.run(course())
