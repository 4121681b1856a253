"""What a process of the service does beside requests, again and again, and whether it still does."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from data.log.errors import StoreError
from data.log.store import Store
from data.log.writer.process import WriterProcess
from serve.decisions.service import Service
from serve.metrics import definitions as of
from serve.metrics.replica import ReplicaMetrics

T = TypeVar("T")
_COUNT_S = 5.0
"""How often a replica hands its numbers on: Ray reports every 10 s, and forgets gauges that two had nothing of."""

log = logging.getLogger("ray.serve")


async def repeat(work: Callable[[], T], every_s: float, then: Callable[[T], Awaitable[None]] | None = None) -> None:
    """Do work in a thread, for ever; what fails is said once, however long it lasts, and tried again.

    Args:
        work: blocks.
        every_s: seconds between its end and its next beginning.
        then: is given what it returns, in the event loop.
    """
    said = ""
    while True:
        try:
            result = await asyncio.to_thread(work)
        except StoreError as error:
            if said != (said := str(error)):
                log.warning("the log did not answer, trying again: %s", error)
        except Exception as error:  # whatever it is, giving up would stop more than it
            if said != (said := repr(error)):
                log.exception("%s failed, trying again", getattr(work, "__qualname__", work))
        else:
            said = ""
            if then:
                await then(result)
        await asyncio.sleep(every_s)


async def keep_counting(metrics: ReplicaMetrics, service: Service, writer: WriterProcess) -> None:
    """Hand on what a replica has counted, every 5 s; for ever. What fails is said once, and no request notices."""
    said, made, meter = "", Counter[str](), metrics.meter

    def read_nodes(decision_ids: Collection[str]) -> dict[str, str | None]:
        return {name: made.node_id for name, made in service.store.decisions_by_id(decision_ids).items()}

    while True:
        await asyncio.sleep(_COUNT_S)
        try:
            heard, shadows = service.served.heard, Counter(service.shadows.counts)
            meter.set(of.HEARD, {} if heard is None else {(): heard.timestamp()})
            meter.set(of.PENDING, {(): writer.pending})
            meter.set(of.SHADOWS_WAITING, {(): service.shadows.waiting})
            for status, number in (shadows - made).items():
                meter.count(of.SHADOWS, (status,), number)
            made = shadows
            await meter.flush_between()
            await asyncio.to_thread(metrics.count_contradicted, read_nodes)
        except Exception as error:  # whatever it is, what comes next is counted too
            if said != (said := repr(error)):
                log.exception("metrics could not be handed on, trying again")


class Signal:
    """Wakes who waits for something to become true. Whoever stops waiting, however often, holds up nobody.

    Not an `asyncio.Condition`: a wait that ends and is cancelled at once can leave its lock taken (Python 3.11).
    """

    def __init__(self) -> None:
        """Nobody waits."""
        self._event = asyncio.Event()

    def send(self) -> None:
        """Let all who wait look again."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait_for(self, is_true: Callable[[], bool], within_s: float) -> bool:
        """Wait until it is true, for a time at most; returns whether it is."""
        try:
            async with asyncio.timeout(within_s):
                while not is_true():
                    await self._event.wait()
        except TimeoutError:
            return False
        return True


def check_tasks(tasks: Sequence["asyncio.Task[None]"], otherwise: str) -> None:
    """Check that tasks that are for ever have not ended.

    Raises:
        RuntimeError: one has; says `otherwise`, and why.
    """
    for task in tasks:
        if task.done():
            raise RuntimeError(f"{otherwise}: {task.exception()}")


def check_log(store: Store) -> None:
    """Check that the log is the one that was opened; that there is none is no reason: a new one would be empty.

    Raises:
        RuntimeError: another is in its place.
    """
    if store.replaced:
        raise RuntimeError("another log is where the log was: this process begins anew with it")
