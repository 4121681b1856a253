"""What everybody else wants meanwhile: each second a recommendation, a report of it, and that it is learned."""

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import aiohttp

from tests.bench.hostility.asks import Promise
from tests.bench.hostility.load import GRACE_S
from tests.bench.hostility.usual import POLICIES

LEARNED_S = 20.0
"""How long until what was reported must have been learned, by a learner that has learned the log before it."""
_EVERY_S = 1.0
_ASK_S = 10.0
_KINDS = ("cup", "plate", "lamp")


@dataclass
class Ordinary:
    """Asks each policy in turn, and the Personalizer loop; each whole round is one probe."""

    url: str
    rounds: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    """When, by `monotonic`, and what."""
    promised: set[Promise] = field(default_factory=set)
    up_since: float = 0.0
    """By `monotonic`: a service that has just started learns its log first, and has `GRACE_S` for it."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def stock(self) -> None:
        """Put a few ordinary items into the catalogue."""
        items = [{"item_id": f"item-{n}", "features": {"kind": _KINDS[n % 3], "price": n}} for n in range(20)]
        async with aiohttp.ClientSession(self.url) as session:
            await _post(session, "/v1/items", {"items": items})

    async def run(self) -> None:
        """Begin a round each second until cancelled."""
        timeout = aiohttp.ClientTimeout(_ASK_S)
        async with aiohttp.ClientSession(self.url, timeout=timeout) as session:
            try:
                for number in range(1_000_000):
                    self._start(session, number)
                    await asyncio.sleep(_EVERY_S)
            finally:
                await self.finish()

    async def finish(self) -> None:
        """Wait for the rounds that have begun."""
        await asyncio.gather(*self._tasks)

    def _start(self, session: aiohttp.ClientSession, number: int) -> None:
        task = asyncio.create_task(self._round(session, number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _round(self, session: aiohttp.ClientSession, number: int) -> None:
        self.rounds += 1
        which = (*POLICIES, "personalizer")[number % (len(POLICIES) + 1)]
        try:
            if which == "personalizer":
                await self._personalized(session, number)
            else:
                await self._recommended(session, which, number)
        except (aiohttp.ClientError, TimeoutError, _FailedError) as error:
            self.failures.append((monotonic(), f"round {number}, {which}: {type(error).__name__} {error}"))

    async def _recommended(self, session: aiohttp.ClientSession, policy: str, number: int) -> None:
        ask = {"user_id": f"user-{number % 200}", "policy": policy, "k": 3}
        decision = (await _post(session, "/v1/recommend", ask))["decision_id"]
        self.promised.add(("decision", decision))
        report = {"decision_id": decision, "kind": "click"}
        [result] = (await _post(session, "/v1/feedback", report))["results"]
        self.promised.add(("feedback", result["feedback_id"]))
        await self._learned(session, "v1", policy, result["position"])

    async def _personalized(self, session: aiohttp.ClientSession, number: int) -> None:
        event, actions = f"ordinary-{number}", [{"id": f"a{n}", "features": [{"n": str(n)}]} for n in range(3)]
        await _post(session, "/personalizer/v1.0/rank", {"eventId": event, "actions": actions})
        self.promised.add(("decision", f"personalizer:{event}"))
        before = await _position(session, "personalizer", None)
        await _post(session, f"/personalizer/v1.0/events/{event}/reward", {"value": 1})
        await self._learned(session, "personalizer", None, before + 1)  # the reward's own position is not answered

    async def _learned(self, session: aiohttp.ClientSession, loop: str, policy: str | None, position: int) -> None:
        deadline = max(monotonic(), self.up_since + GRACE_S) + LEARNED_S
        while await _position(session, loop, policy) < position:
            if monotonic() > deadline:
                raise _FailedError(f"position {position} was not learned within {LEARNED_S:g} s")
            await asyncio.sleep(0.25)


class _FailedError(Exception):
    """An ordinary request was not answered as it should be."""


async def _post(session: aiohttp.ClientSession, path: str, body: Any) -> Any:
    async with session.post(path, json=body) as response:
        if response.status >= 300:
            raise _FailedError(f"{path} answered {response.status} {(await response.text())[:200]}")
        return await response.json() if response.status != 204 else None


async def _position(session: aiohttp.ClientSession, loop: str, policy: str | None) -> int:
    """Return up to which log position a loop's policy has learned, as far as the replica that answers knows."""
    async with session.get("/v1/policy") as response:
        if response.status != 200:
            raise _FailedError(f"/v1/policy answered {response.status} {(await response.text())[:200]}")
        served = (await response.json())["policies"]
    found = [one["learned_through"] for one in served if one["loop"] == loop and policy in (None, one["name"])]
    return max(found, default=0)
