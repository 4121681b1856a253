"""The coffee machine through Personalizer's unmodified client: `python -m tests.bench.coffee_http [--seeds N]`.

Each seed is 10,000 ranks and rewards over HTTP against the service as it is deployed, behind HAProxy, with a log of its
own. Of its settings only the exploration percentage is changed, through the administration client. Several threads ask,
as users do, so the policy learns from a request only some requests later. A rank earns 1 for the right coffee.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from azure.ai.personalizer import PersonalizerAdministrationClient, PersonalizerClient
from azure.core.credentials import AzureKeyCredential

from rl.artefacts.artefact import Artefact, save
from rl.encoders.catalogue import CatalogueEncoder
from rl.policies import RandomConfig, build
from rl.policy.arrays import FloatArray
from rl.simulators.bandits.coffee import (
    TIMES,
    USERS,
    WEATHERS,
    Coffee,
    preferences,
)
from tests.bench.bandits import mean_curve, seeds_of, windowed
from tests.bench.common import finish, plot, say
from tests.bench.service.processes import running

N, LAST = 10_000, 1_000
THREADS = 4
EXPLORATION = 0.01
KEY = "coffee"

_USERS = ("Alice", "Bob", "Cathy", "Dave")
_WEATHERS = ("Sunny", "Rainy", "Snowy")
_TIMES = ("Morning", "Afternoon", "Evening")
_ACTIONS = [
    {"id": "Cappuccino", "features": [{"type": "hot", "origin": "Kenya", "organic": "yes", "roast": "dark"}]},
    {"id": "Cold brew", "features": [{"type": "cold", "origin": "Brazil", "organic": "yes", "roast": "light"}]},
    {"id": "Iced mocha", "features": [{"type": "cold", "origin": "Ethiopia", "organic": "no", "roast": "light"}]},
    {"id": "Latte", "features": [{"type": "hot", "origin": "Brazil", "organic": "no", "roast": "dark"}]},
]


def main() -> None:
    """Serve, ask, and print one JSON object as the last line."""
    seeds = seeds_of("coffee_http", __doc__)
    runs: list[FloatArray] = []
    rates: list[float] = []
    for seed in seeds:
        with TemporaryDirectory() as home:
            earned, seconds = _run(Path(home), seed)
        runs.append(earned)
        rates.append(2 * N / seconds)
        say(f"seed {seed}: mean {earned.mean():.4f}, last {earned[-LAST:].mean():.4f}, {rates[-1]:.0f} requests/s")
    figures = {
        "mean": round(float(np.mean(runs)), 4),
        "last_1k": round(float(np.mean([run[-LAST:] for run in runs])), 4),
        "requests_per_s": round(float(np.mean(rates)), 1),
    }
    curves = {"over HTTP": mean_curve([windowed(run, 200) for run in runs])}
    plot("coffee_http", curves, "requests", "mean reward of the last 200", **Coffee(1).ceilings())
    finish("coffee_http", figures, {}, len(seeds))


def _run(home: Path, seed: int) -> tuple[FloatArray, float]:
    """Return what each rank earned, in the order of their answers, and how long all took, in seconds."""
    _save_any(home)
    command = ("{python}", "-m", "tests.bench.service.ours", str(home), "{port}", "--replicas", "2")
    config = '{{"policies": {{"random": 1}}, "access_log": false}}'
    with running((*command, "--config", config), "/healthz", {"RAYCOMMEND_API_KEY": KEY}) as service:
        with PersonalizerAdministrationClient(service.url, AzureKeyCredential(KEY)) as admin:
            now: Any = admin.get_service_configuration()
            admin.update_service_configuration({**now, "explorationPercentage": EXPLORATION})
        earned, answered = np.empty(N), count()
        cells = np.random.default_rng(seed).integers((USERS, WEATHERS, TIMES), size=(N, 3)).tolist()
        started = time.monotonic()

        def ask(thread: int) -> None:
            client: Any = PersonalizerClient(service.url, AzureKeyCredential(KEY))  # a connection for each thread
            with client:
                for number in range(thread, N, THREADS):
                    reward = _ask(client, cells[number], f"{seed} {number}")
                    earned[next(answered)] = reward

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(ask, range(THREADS)))
        return earned, time.monotonic() - started


def _ask(client: Any, cell: list[int], event: str) -> float:
    """Let one user have a coffee, and report whether it was the right one."""
    user, weather, part = cell
    context = [{"user": _USERS[user]}, {"weather": _WEATHERS[weather]}, {"timeOfDay": _TIMES[part]}]
    answer = client.rank({"actions": _ACTIONS, "contextFeatures": context, "eventId": event})
    right = _ACTIONS[int(preferences()[user, weather, part])]["id"]
    reward = float(answer["rewardActionId"] == right)
    client.reward(answer["eventId"], {"value": reward})
    return reward


def _save_any(home: Path) -> None:
    """Save a policy for version 1, which is not asked."""
    config, encoder = RandomConfig(), CatalogueEncoder(("1",))
    policy = build(config, encoder.n_features, encoder.n_states, encoder.popularity)
    save(Artefact(name="random", config=config, policy=policy, encoder=encoder), home / "policies" / "random")


if __name__ == "__main__":
    main()
