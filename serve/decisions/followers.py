"""Followers of a replica: output nodes and dashboards that are sent decisions and policies as they come.

One task of a replica reads the log for all who follow, whichever replica decided. Slow consumers are
disconnected; they come again and say what they have seen last.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from data.log.errors import StoreError
from data.log.following import routed_decisions
from data.log.store import Store
from data.schema import Decision
from serve.contracts.learning import ServedPolicy

_POLL_S = 0.1
_QUEUE = 1_000
_CATCH_UP = 10_000  # decisions that a returning follower is sent again at most
KEEP_ALIVE_S = 15.0


@dataclass(frozen=True)
class Message:
    """A decision or changed policies. Neither: only a sign of life."""

    seq: int | None = None
    """Log position of the decision."""
    decision: Decision | None = None
    policies: list[ServedPolicy] | None = None


@dataclass
class _Follower:
    node: str | None
    queue: asyncio.Queue[Message] = field(default_factory=lambda: asyncio.Queue(_QUEUE))
    lost: bool = False

    def send(self, message: Message) -> None:
        try:
            self.queue.put_nowait(message)
        except asyncio.QueueFull:
            self.lost = True


class Streams:
    """All who follow this replica."""

    def __init__(self, store: Store, policies: Callable[[], list[ServedPolicy]]) -> None:
        self._store, self._policies = store, policies
        self._followers: list[_Follower] = []
        self._task: asyncio.Task[None] | None = None
        self._seq = 0

    async def follow(self, node: str | None, after: int | None) -> AsyncIterator[Message]:
        """Yield the served policies and each change of them, and the decisions routed to a node.

        Args:
            node: the output node; None: policies only.
            after: log position of the last decision that the follower has seen; None: from now on.

        Raises:
            StoreUnavailable: the log does not answer.
        """
        follower = _Follower(node)
        if not self._followers:
            self._seq = await asyncio.to_thread(self._store.last_decision)
        self._followers.append(follower)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            yield Message(policies=self._policies())
            seen = after
            if node is not None and after is not None:
                missed = await asyncio.to_thread(routed_decisions, self._store, after, node, _CATCH_UP)
                for seq, decision in missed:
                    seen = seq
                    yield Message(seq, decision)
            while not follower.lost:
                message = Message()
                with suppress(TimeoutError):
                    message = await asyncio.wait_for(follower.queue.get(), KEEP_ALIVE_S)
                if message.seq is None or seen is None or message.seq > seen:  # not what was sent as missed
                    yield message
        finally:
            self._followers.remove(follower)

    async def _watch(self) -> None:
        published = self._policies()
        while self._followers:
            await asyncio.sleep(_POLL_S)
            if (policies := self._policies()) != published:
                published = policies
                for follower in self._followers:
                    follower.send(Message(policies=policies))
            if not any(follower.node for follower in self._followers):
                continue
            with suppress(StoreError):  # it is asked again, from the same place
                for seq, decision in await asyncio.to_thread(routed_decisions, self._store, self._seq):
                    self._seq = seq
                    for follower in self._followers:
                        if follower.node == decision.node_id:
                            follower.send(Message(seq, decision))
