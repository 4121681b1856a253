"""A small shop with trained artefacts, for the tests of the service."""

from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np

from data.features.customers import EncoderConfig, fit
from data.log.store import Store
from data.nodes.node import NodeSpec
from rl.artefacts.artefact import Artefact, save
from rl.encoders.catalogue import CatalogueEncoder
from rl.encoders.customers import CustomerEncoder
from rl.encoders.json_features import FeaturesEncoder
from rl.experience.events import generated_events
from rl.online.fold import Publication
from rl.policies import (
    CrossedConfig,
    LinearThompsonConfig,
    NeuralLinearConfig,
    PolicyConfig,
    PopularityConfig,
    RandomConfig,
    RFMBanditConfig,
    RidgeConfig,
    TransformerConfig,
    build,
)
from rl.policies.forgetting.config import Forgetting
from rl.policies.transformer.config import QNetworkConfig
from rl.simulators.market.generated import GeneratedMarketConfig, generate_market
from rl.simulators.market.market import Market
from serve.config import ServiceConfig
from serve.decisions.recommender import Recommender
from serve.decisions.router import Router
from serve.decisions.served import Served
from serve.decisions.service import Service
from tests.support.writers import StoreWriter

DAY = timedelta(days=1)

POLICIES: dict[str, PolicyConfig] = {
    "random": RandomConfig(),
    "popularity": PopularityConfig(),
    "rfm_bandit": RFMBanditConfig(),
    "linear_thompson": LinearThompsonConfig(samples=50),
}


@cache
def small_market(seed: int = 0) -> tuple[Market, CustomerEncoder]:
    """Return a market of 50 customers and 12 items, and an encoder fitted on 400 of its invoices."""
    rng = np.random.default_rng(seed)
    market = generate_market(GeneratedMarketConfig(users=50, items=12, kinds=3), rng)
    return market, CustomerEncoder.of(fit(generated_events(market, 400, rng), EncoderConfig(rank=3)))


def untrained(encoder: CustomerEncoder, name: str) -> Artefact:
    """Return an artefact that has learned nothing yet."""
    config = POLICIES[name]
    policy = build(config, encoder.n_features, encoder.n_states, encoder.popularity)
    return Artefact(name=name, config=config, policy=policy, encoder=encoder, digest="0" * 8)


LEARNING: dict[str, PolicyConfig] = {
    "linear_thompson": POLICIES["linear_thompson"],
    "rfm_bandit": POLICIES["rfm_bandit"],
    "neural_linear": NeuralLinearConfig(hidden=(8,), refresh_every=20, capacity=100, steps=3),
    "crossed": CrossedConfig(),
    "forgetting": RidgeConfig(regularisation=1.0, forgetting=Forgetting(shortest=8, rates=2)),
}


def of_every_kind(encoder: CustomerEncoder) -> dict[str, Artefact]:
    """Return all kinds of policies that learn, untrained, and a network that reads histories."""
    made = dict[str, Artefact]()
    for name, config in LEARNING.items():
        of = FeaturesEncoder(()) if isinstance(config, CrossedConfig) else encoder
        policy = build(config, of.n_features, of.n_states, of.popularity)
        made[name] = Artefact(name=name, config=config, policy=policy, encoder=of)
    network, items = TransformerConfig(network=QNetworkConfig(width=8)), encoder.items
    policy = build(network, 0, 1, np.zeros(len(items) + 1))
    made["network"] = Artefact(
        name="network", config=network, policy=policy, encoder=CatalogueEncoder(items), history=5
    )
    return made


def recommender(artefacts: Mapping[str, Artefact], shares: Mapping[str, float]) -> Recommender:
    """Return a recommender that has taken over artefacts as they are."""
    recommender = Recommender(Router(shares))
    recommender.restore(Publication("fold", 0, 0, dict(artefacts)))
    return recommender


def served(artefacts: Mapping[str, Artefact], shares: Mapping[str, float]) -> Served:
    """Return what a replica has that was told of these artefacts."""
    served = Served({"v1": shares})
    served.take({("v1", "default"): Publication("fold", 0, 0, dict(artefacts))})
    return served


def shop_service(store: Store, *nodes: NodeSpec, home: Path | None = None) -> Service:
    """Return a service with every policy, of which linear_thompson answers, that takes events of some nodes."""
    _, encoder = small_market()
    policies = served({name: untrained(encoder, name) for name in POLICIES}, {"linear_thompson": 1.0})
    config = ServiceConfig(home=str(home)) if home else None
    return Service(policies, store, StoreWriter(store), {node.name: (node, None) for node in nodes}, config)


def save_policies(home: Path, encoder: CustomerEncoder) -> None:
    """Save an untrained artefact of every policy where the service looks for them."""
    for name in POLICIES:
        save(untrained(encoder, name), home / "policies" / name)
