"""A replica in this process, asked for one slate after the other: with traces off, and with nothing of them in the way.

In process, as it is what a request takes in the replica alone that could grow: Ray's and HAProxy's share would hide it.
"""

import asyncio
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from time import process_time

from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider

from data.json_lines import Redact
from data.log.store import Store
from rl.artefacts.artefact import Artefact
from rl.encoders.visit import Visit
from rl.policies.greedy import greedy
from rl.policy.queries import Slates
from rl.policy.rules import rules_constraint
from serve.api.application import create_api
from serve.config import ServiceConfig
from serve.decisions.draws import generator
from serve.decisions.recommender import Recommender
from serve.decisions.router import Router
from serve.decisions.served import Served
from serve.decisions.service import Service
from serve.http.edge import Edge
from serve.learning.loops import Loops
from serve.learning.plans import ConfiguredPlans
from serve.traces.tracer import Tracer
from tests.bench.service import shop
from tests.support.asgi import ask
from tests.support.writers import StoreWriter

POLICY = "lin_ucb"
_BURST = 50


class Bare(Recommender):
    """Decides without the methods that a traced one overrides, as it did before there were traces."""

    def _decide(self, artefact: Artefact, visit: Visit) -> Slates:
        policy = greedy(artefact.policy) if visit.mode == "exploit" else artefact.policy
        rng = generator(visit.decision_id)
        query = artefact.encoder.query([visit])
        constraint = rules_constraint(visit.candidates, visit.rules) if visit.rules else None
        return policy.decide(query, min(visit.k, len(visit.candidates)), rng, constraint)


def replica(home: Path, store: Store, make: Callable[[Router, str, str], Recommender], edge: Edge) -> FastAPI:
    """Return the application of a replica that has learned nothing yet."""
    config = ServiceConfig(policies={POLICY: 1.0}, home=str(home))
    sources = [ConfiguredPlans(config, config.settings, store)]
    served = Served({"v1": config.shares}, make=make)
    served.take(Loops(store, config.settings, sources, lambda: datetime.now(UTC)).news({}))
    return create_api(Service(served, store, StoreWriter(store), {}, config), edge)


def compare(turns: int, requests: int) -> list[dict[str, float]]:
    """Return CPU seconds a request, by turn: `with` traces off, `without` anything, `all` where every one is traced."""
    tracer = Tracer(TracerProvider(), Redact())
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as temporary:
        home = Path(temporary)
        users, items = shop.prepare(home, POLICY)
        asked = shop.asks(users, items, number=requests)
        bodies = [json.dumps({"user_id": user, "candidates": c, "k": shop.K}).encode() for user, c in asked]
        with closing(Store.open(f"sqlite:///{home / 'store.db'}")) as store:
            up = {
                "with": replica(home, store, Recommender, Edge(access_log=False)),
                "without": replica(home, store, Bare, Edge(access_log=False)),
                "all": replica(home, store, tracer.recommender, Edge(access_log=False, traced=tracer.requests)),
            }
            for app in up.values():
                asyncio.run(_spend(app, bodies[: requests // 4]))
            found, orders = list[dict[str, float]](), list(permutations(up))
            for _ in range(turns):
                found.append(dict.fromkeys(up, 0.0))
                # In bursts beside each other's, so that the machine is as busy for all; each way is as often at each
                # place of the order, as what comes after another pays for what that left to be done.
                for number, start in enumerate(range(0, requests, _BURST)):
                    names = orders[number % len(orders)]
                    for name in names:
                        found[-1][name] += asyncio.run(_spend(up[name], bodies[start : start + _BURST])) / requests
            return found


async def _spend(app: FastAPI, bodies: Sequence[bytes]) -> float:
    began = process_time()
    for body in bodies:
        answer = await ask(app, "/v1/recommend", [body], headers={"Content-Type": "application/json"})
        if answer.status != 200:
            raise RuntimeError(f"answered {answer.status}: {answer.body!r}")
    return process_time() - began
