"""A real service with a console, and a shop that is good to look at: for tests in a browser, and for its pictures."""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from data.features.customers import EncoderConfig, fit
from data.log.current.items import upsert
from data.log.store import Store
from rl.artefacts.artefact import Artefact, save
from rl.encoders.customers import CustomerEncoder
from rl.experience.events import generated_events
from rl.policies import LinearThompsonConfig, PolicyConfig, RFMBanditConfig, build
from rl.simulators.market.generated import GeneratedMarketConfig, generate_market
from serve.app import running
from serve.config import ConsoleConfig, ServiceConfig
from serve.demo.goods import name_goods
from serve.environment import ray_environment

POLICIES: dict[str, PolicyConfig] = {"linear_thompson": LinearThompsonConfig(), "rfm_bandit": RFMBanditConfig()}


def furnish(home: Path, seed: int = 0) -> None:
    """Write untrained policies and a catalogue of 60 named items into a home."""
    rng = np.random.default_rng(seed)
    market = generate_market(GeneratedMarketConfig(users=200), rng)
    encoder = CustomerEncoder.of(fit(generated_events(market, 1_500, rng), EncoderConfig()))
    for name, config in POLICIES.items():
        policy = build(config, encoder.n_features, encoder.n_states, encoder.popularity)
        save(Artefact(name=name, config=config, policy=policy, encoder=encoder), home / "policies" / name)
    store = Store.open(f"sqlite:///{home / 'store.db'}")
    upsert(store, name_goods(market))
    store.close()


def main(home: str, port: str, jobs: str = "") -> None:
    """Serve until SIGTERM; says `ready` when it does. `jobs`: Ray takes jobs."""
    os.environ.update(ray_environment(drain_s=1))
    import ray  # after the environment that it reads

    from data.cluster import start_ray

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    Path(home).mkdir(parents=True, exist_ok=True)
    if not (Path(home) / "policies").exists():
        furnish(Path(home))
    start_ray(2, own=True, jobs=bool(jobs))
    config = ServiceConfig(home=home, policies={"linear_thompson": 1.0, "rfm_bandit": 0.0})
    options = {"num_replicas": 2, "ray_actor_options": {"num_cpus": 0.1}}
    with running(config, int(port), ConsoleConfig(home=home), **options):
        print("ready", flush=True)
        signal.sigwait({signal.SIGTERM})
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
