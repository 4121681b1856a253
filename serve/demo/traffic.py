"""Simulated customers over real HTTP, from several clients at once: they ask, look, click, buy and report."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter
from typing import Any
from uuid import UUID

import aiohttp
import numpy as np

from data.errors import RecommenderError
from data.reward import RewardSpec
from rl.simulators.market.market import Market, reward_levels, to_months

_ATTEMPTS = 5
"""Of one request; each repeats the same ids, so that a retry counts once."""


_FRESH_WITHIN_S = 30.0
"""Past this the service has stopped learning."""


class TrafficError(RecommenderError):
    """The service did not answer as it should; says with what."""


@dataclass(frozen=True, slots=True)
class VisitResult:
    """What one visit of a customer earned; rewards are sums over the slate."""

    policy: str
    reward: float
    expected: float
    """The market's expected reward of the shown slate."""
    oracle: float
    """The expected reward of the best slate for this customer at this time."""


@dataclass
class Traffic:
    """What was sent and what came of it."""

    results: list[VisitResult] = field(default_factory=list)
    decisions: set[str] = field(default_factory=set)
    """Ids that were acknowledged."""
    feedback: set[str] = field(default_factory=set)
    """Likewise."""
    retries: int = 0
    newest: tuple[int, float] = (0, 0.0)
    """Log position of the newest feedback that was acknowledged, and when it was."""
    freshness_s: list[float] = field(default_factory=list)
    """Times from a feedback's acknowledgement until every replica answered with a version that has learned it."""


class Customers:
    """The customers of a market as HTTP clients of a service that sells the market's items."""

    def __init__(self, market: Market, url: str, k: int, spec: RewardSpec, rng: np.random.Generator) -> None:
        self._market, self._url, self._k, self._spec, self._rng = market, url, k, spec, rng
        self._index = {item: i for i, item in enumerate(market.items)}
        self.traffic = Traffic()

    async def visit(
        self, visits: int, policies: Sequence[str], clients: int, on_visit: Callable[[], object] = lambda: None
    ) -> None:
        """Make visits from several clients at once, each visit asking one of the policies, drawn at random.

        So every policy meets the same customers at the same time: the comparison is a randomised experiment.

        Raises:
            TrafficError: a request was answered with an error, or not at all, after several attempts.
        """
        users, times = self._market.sample_visits(visits, self._rng)
        plan = zip(users.tolist(), times, self._rng.choice(list(policies), size=visits).tolist(), strict=True)
        async with aiohttp.ClientSession(self._url, timeout=aiohttp.ClientTimeout(30)) as session:

            async def client() -> None:
                for user, time, policy in plan:  # one iterator: the clients share the visits out among them
                    await self._make_visit(session, user, time, policy)
                    on_visit()

            try:
                async with asyncio.TaskGroup() as group:
                    prober = group.create_task(self._probe(session))
                    await asyncio.wait([group.create_task(client()) for _ in range(clients)])
                    prober.cancel()
            except ExceptionGroup as failed:
                if (failures := failed.subgroup(TrafficError)) is None:
                    raise
                raise failures.exceptions[0] from failed

    async def _make_visit(self, session: aiohttp.ClientSession, user: int, time: datetime, policy: str) -> None:
        decision_id = UUID(bytes=self._rng.bytes(16)).hex
        body = {
            "decision_id": decision_id,
            "user_id": self._market.users[user],
            "context": {"time": time.isoformat()},
            "candidates": self._market.items,
            "k": self._k,
            "policy": policy,
        }
        answer = await self._request(session, "POST", "/v1/recommend", body)
        self.traffic.decisions.add(decision_id)
        shown = np.array([[self._index[item["item_id"]] for item in answer["items"]]])
        visitor, months = np.array([user]), to_months([time])
        clicked, bought = self._market.respond(visitor, months, shown, self._rng)
        reports = [{"decision_id": decision_id, "kind": "view"}]
        for item, was_clicked, was_bought in zip(answer["items"], clicked[0], bought[0], strict=True):
            about = {"decision_id": decision_id, "item_id": item["item_id"]}
            reports += [{**about, "kind": "click"}] if was_clicked else []
            reports += [{**about, "kind": "purchase"}] if was_bought else []
        result = await self._request(session, "POST", "/v1/feedback", reports)
        self.traffic.feedback |= {row["feedback_id"] for row in result["results"]}
        position = max(row["position"] for row in result["results"])
        self.traffic.newest = max(self.traffic.newest, (position, perf_counter()))
        nothing, click, purchase = reward_levels(self._spec)
        expected = self._market.expected_rewards(visitor, months, self._spec)[0]
        self.traffic.results.append(
            VisitResult(
                policy=policy,
                reward=float(np.where(bought, purchase, np.where(clicked, click, nothing)).sum()),
                expected=float(expected[shown[0]].sum()),
                oracle=float(np.sort(expected)[-self._k :].sum()),
            )
        )

    async def _request(self, session: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with session.request(method, path, json=body) as response:
                    if response.status == 200:
                        return await response.json()
                    problem = f"{path} answered {response.status}: {await response.text()}"
                    if response.status < 500:
                        raise TrafficError(problem)
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = f"{path} did not answer: {error!r}"
            if attempt == _ATTEMPTS:
                break
            self.traffic.retries += 1
            await asyncio.sleep(0.1 * 2**attempt)
        raise TrafficError(problem)

    async def _probe(self, session: aiohttp.ClientSession, replicas: int = 2) -> None:
        """Measure again and again how long it takes until every replica serves what was just acknowledged."""
        while True:
            await asyncio.sleep(0.3)
            position, acknowledged = self.traffic.newest
            if not position:
                continue
            fresh: set[str] = set()
            while len(fresh) < replicas:
                health = await self._request(session, "GET", "/healthz")
                if health["learned_through"] >= position:
                    fresh.add(health["replica"])
                if perf_counter() - acknowledged > _FRESH_WITHIN_S:
                    raise TrafficError(f"feedback {position} is not served after {_FRESH_WITHIN_S} s: {health}")
                await asyncio.sleep(0.02)
            self.traffic.freshness_s.append(perf_counter() - acknowledged)
