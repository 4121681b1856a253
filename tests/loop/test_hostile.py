"""The probes of `tests.bench.hostile`, a few of each kind, in one process: none is answered by a fault of ours."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from data.log.store import Store
from data.nodes.node import load_node
from rl import train
from rl.artefacts.artefact import save
from serve.api.application import create_api
from serve.api.personalizer.configuration.plan import PersonalizerSource
from serve.api.personalizer.configuration.values import LOOP
from serve.api.personalizer.routes.problems import SHAPES
from serve.api.personalizer.service import Personalizer
from serve.config import ServiceConfig
from serve.decisions.served import Served
from serve.decisions.service import Service
from serve.http.answers import Answers
from serve.http.edge import Edge
from serve.learning.loops import Loops
from serve.learning.plan import PlanSource
from serve.learning.plans import ConfiguredPlans
from tests.bench.hostility.kinds import KINDS
from tests.bench.hostility.usual import POLICIES
from tests.support.shops import small_market, untrained
from tests.support.writers import StoreWriter

EACH = 40


class Shop:
    """A service of three policies and the Personalizer loop that learns whenever it is told to."""

    def __init__(self, home: Path) -> None:
        config = ServiceConfig(policies=dict.fromkeys(POLICIES, 1.0), learn_from="all", home=str(home))
        self.store = Store.open(config.settings.store_url)
        sources: list[PlanSource] = [
            ConfiguredPlans(config, config.settings, self.store),
            PersonalizerSource(config.settings, self.store),
        ]
        self.loops = Loops(self.store, config.settings, sources, lambda: datetime.now(UTC))
        self.served = Served({"v1": config.shares, LOOP: {LOOP: 1.0}})
        nodes = {"online_retail": (load_node("online_retail"), None)}
        self.service = service = Service(self.served, self.store, StoreWriter(self.store), nodes, config)
        personalizer = Personalizer(self.served, self.store, service.commit, service.report, config.settings)
        edge = Edge(limits=config.limits, answers=Answers(by_prefix=SHAPES), access_log=False)
        self.app: FastAPI = create_api(service, edge, personalizer=personalizer)
        self.learn()

    def learn(self) -> None:
        self.loops.poll()
        self.served.take(self.loops.news(self.served.steps()))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path))
    made = ["--policy.kind", "described", "--source", "nothing", "--name", "described", "--no-track"]
    assert train.main(made) == 0
    encoder = small_market()[1]
    for name in POLICIES[1:]:
        save(untrained(encoder, name), tmp_path / "policies" / name)
    shop = Shop(tmp_path)
    yield shop
    shop.store.close()


async def ask_all(shop: Shop) -> tuple[Counter[str], Counter[str], list[str]]:
    """Send probes of every kind by turns; returns how many of each were accepted and refused, and the faults."""
    accepted, refused, faults = Counter[str](), Counter[str](), []
    transport = httpx.ASGITransport(shop.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for number in range(EACH):
            for kind, draw in KINDS.items():
                ask = draw(np.random.default_rng((number, *kind.encode())))
                headers = {name.encode(): value.encode() for name, value in ask.headers.items()}
                answer = await client.request(ask.method, ask.path, content=ask.body, headers=headers)
                if answer.status_code >= 500:
                    faults.append(f"{kind}: {ask.method} {ask.path} {(ask.body or b'')[:300]!r}: {answer.text[:200]}")
                (refused if answer.status_code >= 400 else accepted)[kind] += 1
            shop.learn()
    return accepted, refused, faults


async def learned_after(shop: Shop) -> bool:
    """Return whether one more report is learned by every policy of version 1."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url="http://test") as client:
        for policy in POLICIES:
            answer = await client.post("/v1/recommend", json={"policy": policy, "k": 3, "candidates": ["a", "b"]})
            assert answer.status_code == 200, answer.text
            report = {"decision_id": answer.json()["decision_id"], "kind": "click"}
            [result] = (await client.post("/v1/feedback", json=report)).json()["results"]
    shop.learn()
    through = [served.learned_through for served in shop.service.policies() if served.loop == "v1"]
    return bool(min(through) >= result["position"])


@pytest.mark.slow
def test_no_probe_is_answered_by_a_fault_and_learning_goes_on(shop: Shop) -> None:
    accepted, refused, faults = asyncio.run(ask_all(shop))
    assert not faults, "\n".join(faults[:10])
    assert len([kind for kind in KINDS if accepted[kind]]) >= 15, "probes that are all refused show little"
    assert len([kind for kind in KINDS if refused[kind]]) >= 15
    assert asyncio.run(learned_after(shop))
