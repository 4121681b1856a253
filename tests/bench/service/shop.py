"""The shop that the benches of the service sell in: a generated market, a policy that has learned, requests."""

import json
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from data.features import EncoderConfig, fit
from data.schema import RewardSpec
from rl.artefact import Artefact, save
from rl.encoding import CustomerEncoder
from rl.experience import generated_events
from rl.interaction import interact
from rl.policies import LinUCBConfig, PolicyConfig, build
from rl.simulators.generated import GeneratedMarketConfig, generate_market
from rl.simulators.market import Market
from rl.simulators.retail import RetailEnv

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
    return Artefact(name, config, policy, encoder, spec, {"simulated_visits": VISITS})


def save_linear(home: Path, name: str, seed: int = 0) -> Market:
    """Save a linear policy where a service looks for it, and return the market that it was trained in."""
    market, encoder = market_and_encoder(seed)
    save(linear_policy(market, encoder, name, seed), home / "policies" / name)
    return market


def asks(users: tuple[str, ...], items: tuple[str, ...], number: int, seed: int = 0) -> list[tuple[str, list[str]]]:
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
