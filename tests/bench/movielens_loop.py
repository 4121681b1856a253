"""MovieLens over HTTP, learned from as it happens: `python -m tests.bench.movielens_loop [--seeds N] [--visits N]`.

Users of MovieLens latest-small ask a service of two replicas, which knows nothing yet, for one of its 20 most rated
movies, 50 a second, and rate what they are shown, by a decomposition of rank 20 (`rl.simulators.bandits.ratings`): the
environment of the replaced pipeline. `share` is what they were expected to earn over what the best movie for each would
have earned, over 8,000 visits; what is learned late costs its part. `share_last` is of the last 800.

`peer_share` is of the replaced pipeline's join, in process: as many interactions, ratings of other users than were
asked, and what is learned of every 20 asked next. `uncalled_share` is of that pipeline as it was: what it learns after
the first 24 interactions goes to endpoints that nobody asks.
"""

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from data.settings import Settings
from rl.policy.arrays import FloatArray
from rl.simulators.bandits.ratings import Ratings
from serve.config import ServiceConfig
from serve.traffic.client import Client, connect
from serve.traffic.driver import Driver, Plan
from serve.traffic.simulators import find_people
from serve.traffic.summary import summarise
from tests.bench.bandits import mean_curve, windowed
from tests.bench.common import finish, plot, say
from tests.support.replaced_pipeline import join_by_row, play
from tests.support.services import KEY, service

VISITS, LAST, RATE, FIRST = 8_000, 800, 50.0, 24
REPLICAS, USERS = 2, 1_000
EXPERIMENT, POLICY = "rl/experiments/movielens.toml", "movielens"


def main() -> None:
    """Serve, ask, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.movielens_loop", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many; the figures are means over them")
    parser.add_argument("--visits", type=int, default=VISITS)
    options = parser.parse_args()
    file = Path(os.environ.get("RAYCOMMEND_TEST_DATA", "../shared/data")) / "ml-latest-small" / "ratings.csv"
    ratings, worths = pd.read_csv(file), dict[str, list[FloatArray]]()
    with threadpool_limits(1, "blas"):
        for seed in range(options.seeds):
            with TemporaryDirectory(prefix="raycommend-bench-") as home:
                ours = serve(Path(home), ratings, options.visits, seed)
            of_seed = {
                "closed loop, over HTTP": ours,
                "replaced: ratings of others": replaced(ratings, options.visits, seed),
                "replaced: as it was": replaced(ratings, options.visits, seed, asked_until=FIRST),
            }
            for name, worth in of_seed.items():
                worths.setdefault(name, []).append(worth)
            say(f"seed {seed}: " + ", ".join(f"{name} {share(worth):.4f}" for name, worth in of_seed.items()))
    loop, joined, uncalled = worths.values()
    figures = {
        "share": mean([share(worth) for worth in loop]),
        "share_last": mean([share(worth[-LAST:]) for worth in loop]),
        "peer_share": mean([share(worth) for worth in joined]),
    }
    peers = {"uncalled_share": mean([share(worth) for worth in uncalled])}
    ceilings = Ratings(1, ratings=ratings).ceilings()
    curves = {name: mean_curve([windowed(worth[:, 0], LAST) for worth in of_name]) for name, of_name in worths.items()}
    plot("movielens_loop", curves, "interactions", f"mean rating of the last {LAST}", **ceilings)
    finish("movielens_loop", figures, peers | {n: round(v, 4) for n, v in ceilings.items()}, options.seeds)


def serve(home: Path, ratings: pd.DataFrame, visits: int, seed: int) -> FloatArray:
    """Return what each visit was expected to earn, and the best movie would have, [N, 2], in the visits' order."""
    command = [sys.executable, "-m", "rl.train", EXPERIMENT, "--source", "nothing", "--no-track"]
    environment = {**os.environ, "RAYCOMMEND_HOME": str(home)}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    config = ServiceConfig(policies={POLICY: 1.0}, access_log=False, home=str(home))
    settings = Settings(home=home, store=None, archive=None)
    people = find_people("ratings", {"ratings": ratings}, USERS, settings)
    with service(config, REPLICAS) as running:
        running.wait()

        async def drive() -> Driver:
            async with connect(KEY) as session:
                client = Client(session, lambda: [running.url], attempts=30)
                driver = Driver(people, client, Plan(visits, rate=RATE, seed=seed, name=POLICY), strict=True)
                await driver.drive()
                latency = summarise(driver.traffic, client, {}, 0.0)["latency_ms"]
                say(f"  latency {latency}, behind {behind(driver):.1f} decisions")
                return driver

        traffic = asyncio.run(drive()).traffic
    done = sorted(traffic.visits, key=lambda visit: visit.number)
    return np.array([(visit.response.expected, visit.response.best) for visit in done], dtype=np.float64)


def behind(driver: Driver) -> float:
    """Return how many answers before it the policy of an answer had not learned the rating of, on average."""
    positions = np.array(sorted(driver.traffic.feedback.values()))
    through = np.array([done.learned_through for done in driver.traffic.visits])  # in the order of the answers
    return float(np.mean(np.arange(len(through)) - np.searchsorted(positions, through, side="right")))


def replaced(ratings: pd.DataFrame, visits: int, seed: int, asked_until: int | None = None) -> FloatArray:
    """Return the same of the replaced pipeline."""
    played = play(join_by_row, of_others=True, interactions=visits, seed=seed, ratings=ratings, asked_until=asked_until)
    return np.array(list(played))[:visits]


def share(worth: FloatArray) -> float:
    """Return what was earned over what the best would have earned."""
    earned, best = worth.sum(axis=0)
    return float(earned / best)


def mean(values: Sequence[float]) -> float:
    """Return the mean, rounded."""
    return round(float(np.mean(values)), 4)


if __name__ == "__main__":
    main()
