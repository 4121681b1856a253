"""Decisions that nobody waits for: made after the answer, counted where they fail or are too many."""

import asyncio
from collections.abc import Sequence
from itertools import chain
from typing import Any

from data.log.errors import StoreUnavailable
from data.schema import AnyRecord, Decision
from serve.decisions.shadows import Shadows
from tests.support.records import decision


class Log:
    """Keeps what is committed, and fails so often before."""

    def __init__(self, failures: int = 0) -> None:
        self.commits = list[list[str]]()
        self._failures = failures

    async def commit(self, records: Sequence[AnyRecord]) -> None:
        if self._failures:
            self._failures -= 1
            raise StoreUnavailable("locked")
        self.commits.append([one.decision_id for one in records if isinstance(one, Decision)])


def fail() -> Decision:
    raise ValueError("no such feature")


def test_all_are_made_in_order_and_committed_together() -> None:
    async def work() -> tuple[Log, dict[str, int]]:
        log = Log()
        shadows = Shadows(log.commit)
        for number in range(40):
            shadows.offer(lambda number=number: decision(str(number)))  # type: ignore[misc]
        assert log.commits == []  # nothing before the answer is sent
        await shadows.finish()
        return log, dict(shadows.counts)

    log, counts = asyncio.run(work())
    assert [len(some) for some in log.commits] == [32, 8]
    assert [*chain(*log.commits)] == [str(number) for number in range(40)]
    assert counts == {"made": 40, "failed": 0, "left_out": 0}


def test_what_fails_is_counted_and_the_others_are_made() -> None:
    async def work(log: Log, offers: Sequence[Any]) -> dict[str, int]:
        shadows = Shadows(log.commit)
        for offer in offers:
            shadows.offer(offer)
        await shadows.finish()
        shadows.offer(lambda: decision("after"))  # it goes on
        await shadows.finish()
        return dict(shadows.counts)

    log = Log()
    assert asyncio.run(work(log, [lambda: decision("1"), fail, lambda: decision("2")])) == {
        "made": 3,
        "failed": 1,
        "left_out": 0,
    }
    assert log.commits == [["1", "2"], ["after"]]
    log = Log(failures=1)
    assert asyncio.run(work(log, [lambda: decision("1"), lambda: decision("2")])) == {
        "made": 1,
        "failed": 2,
        "left_out": 0,
    }
    assert log.commits == [["after"]]


def test_the_newest_are_left_out_where_there_are_too_many() -> None:
    async def work() -> tuple[Log, dict[str, int]]:
        log = Log()
        shadows = Shadows(log.commit)
        for number in range(1_005):
            shadows.offer(lambda number=number: decision(str(number)))  # type: ignore[misc]
        await shadows.finish()
        return log, dict(shadows.counts)

    log, counts = asyncio.run(work())
    assert counts == {"made": 1_000, "failed": 0, "left_out": 5}
    assert log.commits[-1][-1] == "999"
