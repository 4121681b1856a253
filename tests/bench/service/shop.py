"""The shop that the benches of the service sell in: a generated market, a policy that has learned, requests."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import numpy as np
from threadpoolctl import threadpool_limits

from data.features.customers import EncoderConfig, fit
from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Decision
from data.settings import Settings
from rl.artefacts.artefact import Artefact, save
from rl.encoders.catalogue import CatalogueEncoder
from rl.encoders.customers import CustomerEncoder
from rl.experience.events import generated_events
from rl.policies import (
    LinUCBConfig,
    PolicyConfig,
    TransformerConfig,
    build,
)
from rl.simulators.market.generated import GeneratedMarketConfig, generate_market
from rl.simulators.market.market import Market
from rl.simulators.market.retail import RetailEnv
from rl.simulators.play import interact

Names: TypeAlias = tuple[str, ...]
K, CANDIDATES, ITEMS = 10, 50, 60
VISITS = 2_000  # simulated, that a policy has learned from


def market_and_encoder(seed: int) -> tuple[Market, CustomerEncoder]:
    """Return a market of 500 customers and 60 items and an encoder fitted on its past year."""
    rng = np.random.default_rng(seed)
    market = generate_market(GeneratedMarketConfig(items=ITEMS), rng)
    return market, CustomerEncoder.of(fit(generated_events(market, 10_000, rng), EncoderConfig()))


def linear_policy(
    market: Market, encoder: CustomerEncoder, name: str, seed: int, config: PolicyConfig | None = None
) -> Artefact:
    """Return a linear policy that has learned in the market's simulator."""
    config, spec = config or LinUCBConfig(), RewardSpec()
    policy = build(config, encoder.n_features, encoder.n_states, encoder.popularity)
    with threadpool_limits(1):
        environment = RetailEnv(market, encoder, num_envs=100, k=K, spec=spec)
        for _ in interact(policy, environment, VISITS // 100, seed, np.random.default_rng(seed)):
            pass
    return Artefact(
        name=name, config=config, policy=policy, encoder=encoder, reward=spec, trained_on={"simulated_visits": VISITS}
    )


def save_linear(home: Path, name: str, seed: int = 0) -> Market:
    """Save a linear policy where a service looks for it, and return the market that it was trained in."""
    market, encoder = market_and_encoder(seed)
    save(linear_policy(market, encoder, name, seed), home / "policies" / name)
    return market


def prepare(home: Path, name: str) -> tuple[Names, Names]:
    """Save a linear policy; returns ids of the customers and of the items."""
    market = save_linear(home, name)
    return market.users, market.items


def save_transformer(home: Path, name: str, n_items: int = 200, n_users: int = 500) -> tuple[Names, Names]:
    """Save a transformer of random weights that reads histories of 20, and log two slates of 10 for each customer.

    Returns:
        Ids of the customers and of the items.
    """
    import torch  # takes seconds

    from rl.policies.transformer.policy import TransformerPolicy

    torch.manual_seed(0)
    encoder, config = CatalogueEncoder.numbered(n_items), TransformerConfig()
    policy = build(config, encoder.n_features, encoder.n_states, encoder.popularity)
    assert isinstance(policy, TransformerPolicy)
    with torch.no_grad():
        for weights in policy.network.parameters():
            weights.normal_(0, 0.3)
    artefact = Artefact(name=name, config=config, policy=policy, encoder=encoder, history=2 * K)
    save(artefact.with_graph(), home / "policies" / name)
    users, rng = tuple(f"customer{number}" for number in range(n_users)), np.random.default_rng(0)
    store = Store.open(Settings(home=home, store=None, archive=None).store_url)
    store.insert([_shown(f"before-{user}-{turn}", user, encoder.items, rng) for user in users for turn in range(2)])
    store.close()
    return users, encoder.items


def _shown(decision_id: str, user: str, items: Names, rng: np.random.Generator) -> Decision:
    slate = tuple(rng.permutation(items)[:K].tolist())
    return Decision(
        decision_id=decision_id,
        time=datetime.now(UTC),
        user_id=user,
        candidates=slate,
        slate=slate,
        propensities=(1.0,) * K,
        scores=(0.0,) * K,
        policy="before",
        policy_version="before",
    )


def asks(users: Names, items: Names, number: int, seed: int = 0) -> list[tuple[str, list[str]]]:
    """Return customers and 50 candidates each, at random."""
    rng = np.random.default_rng(seed)
    who = rng.integers(len(users), size=number)
    return [(users[user], rng.permutation(items)[:CANDIDATES].tolist()) for user in who.tolist()]


def write_bodies(path: Path, asked: list[tuple[str, list[str]]], form: str) -> None:
    """Write one request a line, in the form that `ours` and the plain peers take or in MLflow's."""
    with path.open("w") as file:
        for user, items in asked:
            if form == "v1":
                body: dict[str, object] = {"user_id": user, "candidates": items, "k": K}
            else:
                rows = [[user, item] for item in items]
                body = {"dataframe_split": {"columns": ["user_id", "item_id"], "data": rows}}
            file.write(json.dumps(body) + "\n")


def ours(home: Path, config: dict[str, object], replicas: int, default_proxy: bool = False) -> list[str]:
    """Return the command of `tests.bench.service.ours`, as `tests.bench.service.processes.running` takes it."""
    given = json.dumps(config).replace("{", "{{").replace("}", "}}")
    command = ["{python}", "-m", "tests.bench.service.ours", str(home), "{port}", "--config", given]
    return [*command, "--replicas", str(replicas), *(["--default-proxy"] if default_proxy else [])]
