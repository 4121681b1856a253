"""A value that is read in the background: once at a time, kept, read again when it is old."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from data.errors import DataError
from serve.console.work.kept import Kept


def counting() -> tuple[Callable[[], int], list[int]]:
    calls = list[int]()

    def read() -> int:
        calls.append(1)
        return len(calls)

    return read, calls


def test_a_fresh_value_is_not_read_again() -> None:
    read, calls = counting()

    async def run() -> None:
        kept = Kept(read, fresh_s=60)
        for _ in range(3):
            found = await kept.get(5)
            assert found is not None
            assert (found.value, found.problem) == (1, None)

    asyncio.run(run())
    assert len(calls) == 1


def test_an_old_one_is_shown_while_the_next_is_read() -> None:
    go, begun = threading.Event(), threading.Event()
    go.set()
    numbers = iter(range(10))

    def read() -> int:
        begun.set()
        assert go.wait(5)
        return next(numbers)

    async def value(kept: Kept[int]) -> int | None:
        found = await kept.get(5)
        assert found is not None
        return found.value

    async def run() -> None:
        kept = Kept(read, fresh_s=0)
        assert await value(kept) == 0
        go.clear()
        begun.clear()
        while not begun.is_set():  # it rests a little after the first
            assert await value(kept) == 0
            await asyncio.sleep(0.01)
        assert await value(kept) == 0
        go.set()
        while await value(kept) == 0:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 10))


def test_who_comes_while_the_first_is_read_is_told_to_come_again() -> None:
    go = threading.Event()

    async def run() -> None:
        kept = Kept(lambda: go.wait(5), fresh_s=60)
        began = time.monotonic()
        assert await kept.get(0.05) is None
        assert await kept.get() is None
        assert time.monotonic() - began < 2
        go.set()
        found = await kept.get(5)
        assert found is not None
        assert found.value

    asyncio.run(run())


def test_after_a_change_what_was_begun_before_it_does_not_count() -> None:
    go = threading.Event()
    now = ["before"]

    def read() -> str:
        seen = now[0]
        assert go.wait(5)
        return seen

    async def run() -> None:
        kept = Kept(read, fresh_s=60)
        assert await kept.get(0.05) is None
        now[0] = "after"
        kept.expire()
        go.set()
        found = await kept.get(5)  # waits for both readings
        assert found is not None
        assert found.value == "after"

    asyncio.run(asyncio.wait_for(run(), 10))


def test_what_is_refused_is_a_problem_in_its_words_and_a_fault_is_raised() -> None:
    def refuse() -> int:
        raise DataError("there is nothing here: put something")

    def fail() -> int:
        raise ZeroDivisionError

    async def run() -> None:
        found = await Kept(refuse, 60).get(5)
        assert found is not None
        assert (found.value, found.problem) == (None, "there is nothing here: put something")
        with pytest.raises(ZeroDivisionError):
            await Kept(fail, 60).get(5)

    asyncio.run(run())
