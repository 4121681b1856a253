"""The demo's customers: as `serve.traffic` drives them, and how soon every replica serves what they report."""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter

from data.reward import RewardSpec
from rl.simulators.market.market import Market
from serve.traffic.client import Client, TrafficError, connect
from serve.traffic.driver import Driver, Plan, Traffic
from serve.traffic.visits import Shoppers

_FRESH_WITHIN_S = 30.0
"""Past this the service has stopped learning."""


class Customers:
    """The customers of a market as HTTP clients of a service that sells the market's items."""

    def __init__(self, market: Market, url: str, k: int, spec: RewardSpec, seed: int) -> None:
        self._people, self._url, self._seed = Shoppers(market, k, spec), url, seed
        self.traffic = Traffic()
        self.retries = 0
        self.freshness_s: list[float] = []
        """Times from a feedback's acknowledgement until every replica answered with a version that has learned it."""

    async def visit(
        self, visits: int, policies: Sequence[str], clients: int, on_visit: Callable[[], object] = lambda: None
    ) -> None:
        """Make visits from several clients at once, each visit asking one of the policies, drawn at random.

        So every policy meets the same customers at the same time: the comparison is a randomised experiment.

        Raises:
            TrafficError: a request was answered with an error, or not at all, after several attempts.
        """
        plan = Plan(visits=visits, clients=clients, seed=self._seed, name="demo", policies=policies, oracle=True)
        async with connect({}) as session:
            client = Client(session, lambda: [self._url])
            driver = Driver(self._people, client, plan, strict=True, on_visit=on_visit)
            self.traffic = driver.traffic
            try:
                async with asyncio.TaskGroup() as group:
                    prober = group.create_task(self._probe(client))
                    await driver.drive()
                    prober.cancel()
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from failed
            self.retries = client.refusals.total()

    async def _probe(self, client: Client, replicas: int = 2) -> None:
        """Measure again and again how long it takes until every replica serves what was just acknowledged."""
        while True:
            await asyncio.sleep(0.3)
            position, acknowledged = self.traffic.newest
            if not position:
                continue
            fresh: set[str] = set()
            while len(fresh) < replicas:
                health = await client.get("/healthz")
                if health["learned_through"] >= position:
                    fresh.add(health["replica"])
                if perf_counter() - acknowledged > _FRESH_WITHIN_S:
                    raise TrafficError(f"feedback {position} is not served after {_FRESH_WITHIN_S} s: {health}")
                await asyncio.sleep(0.02)
            self.freshness_s.append(perf_counter() - acknowledged)
