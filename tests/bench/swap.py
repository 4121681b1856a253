"""What a change of the policy costs those who ask: `python -m tests.bench.swap [--seconds S] [--every S]`.

200 requests a second at a constant rate to two replicas that serve the registry's champion. In turns of 10 s another
process moves the alias to another version every 2 s, or does not. All versions know the same items and value them
differently, so that the scores of an answer tell whose they are. `failed` counts requests that were not answered with
200, `mixed` answers of which a score is not that of the version that the answer names; `p99_ratio` is the 99th
percentile of the times to the answer in a turn with swaps over that in a turn without, the median of each.
"""

import argparse
import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, cycle, pairwise
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from data.settings import Settings
from rl.artefacts.artefact import Artefact, save
from rl.encoders.customers import CustomerEncoder
from rl.encoders.visit import Visit
from rl.policies import RidgeConfig, build
from rl.promotions import promote
from rl.registry import register, resolve
from tests.bench.common import finish, plot, say
from tests.bench.service import shop
from tests.bench.service.processes import running
from tests.bench.service.steady import Answer, quantile_ms, steady

RATE, TURN_S = 200.0, 10.0
VERSIONS = 8
TIME = datetime(2026, 1, 5, 12, tzinfo=UTC)  # of all visits: scores depend on the season


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.swap", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="with swaps, and as long without")
    parser.add_argument("--every", type=float, default=2.0, help="seconds from one swap to the next")
    parser.add_argument("--replicas", type=int, default=2)
    options = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # the registry is that of the bench's own home
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder:
        home = Path(folder)
        market, encoder = shop.market_and_encoder(seed=0)
        asked = shop.asks(market.users, market.items, number=2_000)
        versions = save_versions(home, encoder)
        say(f"registered {len(versions)} versions")

        def request(number: int) -> tuple[str, Any]:
            user, items = asked[number % len(asked)]
            context = {"time": TIME.isoformat()}
            return "/v1/recommend", {"user_id": user, "candidates": items, "k": shop.K, "context": context}

        config: dict[str, object] = {"policies": {}, "champion": {}}
        ours = running(shop.ours(home, config, options.replicas), "/healthz")
        with mover(home, options.every) as alias, ours as service:
            asyncio.run(steady(service.url, request, range(int(3 * RATE)), RATE))
            swapped, still = list[list[Answer]](), list[list[Answer]]()
            length = min(TURN_S, options.seconds)
            for _ in range(round(options.seconds / length)):
                numbers = range(int(length * RATE))
                still.append(asyncio.run(steady(service.url, request, numbers, RATE)))
                with alias.moving():
                    swapped.append(asyncio.run(steady(service.url, request, numbers, RATE)))
    report(swapped, still, versions, asked)


def save_versions(home: Path, encoder: CustomerEncoder) -> dict[str, Artefact]:
    """Register policies of random weights, the first as the champion, and return them by digest."""
    settings, found = Settings(home=home, store=None, archive=None), {}
    for number in range(VERSIONS):
        config = RidgeConfig(noise_sd=1.0)
        policy = build(config, encoder.n_features, encoder.n_states, encoder.popularity)
        weights = np.random.default_rng(number).standard_normal(encoder.n_features)
        policy.load_state_dict({"A": np.eye(encoder.n_features), "b": weights})
        artefact = Artefact(
            name=f"ridge{number}", config=config, policy=policy, encoder=encoder, trained_on={"seed": number}
        )
        artefact = save(artefact, home / "versions" / str(number))
        found[artefact.digest] = artefact
        register(settings, home / "versions" / str(number), alias="champion" if number == 0 else None)
    return found


@dataclass(frozen=True)
class Mover:
    """Another process that moves the alias from version to version; it has started, and waits until it is asked."""

    asked: Event
    process: BaseProcess

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Have the alias moved meanwhile."""
        self.asked.set()
        try:
            yield
            if not self.process.is_alive():
                raise RuntimeError(f"the process that moves the alias has ended with {self.process.exitcode}")
        finally:
            self.asked.clear()


@contextmanager
def mover(home: Path, every_s: float) -> Iterator[Mover]:
    """Start the process, and wait until it has opened the registry: the seconds of MLflow's import are no swap's."""
    spawn = multiprocessing.get_context("spawn")
    asked, ready = spawn.Event(), spawn.Event()
    process = spawn.Process(target=move, args=(home, every_s, asked, ready), daemon=True)
    process.start()
    try:
        if not ready.wait(timeout=120):
            raise RuntimeError(f"the process that moves the alias did not start: {process.exitcode}")
        yield Mover(asked, process)
    finally:
        process.terminate()
        process.join()


def move(home: Path, every_s: float, asked: Event, ready: Event) -> None:
    """Move the alias while it is asked for, until this process is ended."""
    settings = Settings(home=home, store=None, archive=None)
    versions = [resolve(settings, str(number)) for number in range(1, VERSIONS + 1)]
    ready.set()
    for champion, challenger in pairwise(cycle(versions)):
        asked.wait()
        promote(settings, challenger, champion, "of the bench", forced="measured")
        time.sleep(every_s)


def report(
    swapped: Sequence[Sequence[Answer]],
    still: Sequence[Sequence[Answer]],
    versions: Mapping[str, Artefact],
    asked: Sequence[tuple[str, list[str]]],
) -> None:
    """Check the answers, turn by turn, and print the line of figures."""
    of_swapped = list(chain.from_iterable(swapped))
    answers = [*of_swapped, *chain.from_iterable(still)]
    answered = [answer for answer in answers if answer.status == 200]
    mixed = [answer for answer in answered if is_mixed(answer, versions, *asked[answer.number % len(asked)])]
    folds = [answer.body["policy"]["version"] for answer in sorted(of_swapped, key=lambda a: a.answered) if answer.body]
    swaps = sum(one != other for one, other in pairwise(folds))
    ratio = typical_ms(swapped, 0.99) / typical_ms(still, 0.99)
    figures = {"failed": len(answers) - len(answered), "mixed": len(mixed), "p99_ratio": round(ratio, 3)}
    peers: dict[str, float] = {"requests": len(answers), "versions_seen": len(set(folds)), "changes_seen": swaps}
    for name, turns in (("swapping", swapped), ("still", still)):
        peers |= {f"{name}_p{q}_ms": round(typical_ms(turns, q / 100), 2) for q in (50, 95, 99)}
    shares = [float(share) for share in np.linspace(0, 0.999, 200)]
    curves = {
        name: (shares, [typical_ms(turns, share) for share in shares])
        for name, turns in (("swapping", swapped), ("still", still))
    }
    plot("swap", curves, "share of the requests", "ms to the answer")
    finish("swap", figures, peers, seeds=1)


def typical_ms(turns: Sequence[Sequence[Answer]], q: float) -> float:
    """Return the median over the turns of a quantile of the times to the answer."""
    return median(quantile_ms(turn, q) for turn in turns)


def is_mixed(answer: Answer, versions: Mapping[str, Artefact], user: str, candidates: Sequence[str]) -> bool:
    """Return whether a score is not what the version that the answer names gives its item."""
    artefact = versions[answer.body["policy"]["version"].split(".")[0]]
    expected = artefact.policy.expected(artefact.encoder.query([Visit(user, TIME, candidates)]))[0]
    by_item = dict(zip(candidates, expected.tolist(), strict=True))
    return any(abs(item["score"] - by_item[item["item_id"]]) > 1e-9 for item in answer.body["items"])


if __name__ == "__main__":
    main()
