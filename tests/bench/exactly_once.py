"""Each report counts once, whatever happens to it: `python -m tests.bench.exactly_once [--visits N] [--seed N]`.

Customers of a small market use a service of two replicas, on SQLite, over HTTP. Of their reports 20 % are sent twice,
20 % come after the wait window, 5 % never, and all are shuffled; meanwhile a replica or the learner is killed, at
random, again and again as soon as all is back. What is not answered is sent again with its id, as clients do.

Afterwards the same decisions and the same reports, each once, in order, the late ones late, are put into another log,
which a learner reads that nothing happens to. `max_difference` is the largest between what the two have learned: of any
number of the policy's statistics, and of the reward of any decision. `lost` counts acknowledged decisions and reports
that are not in the log, or not where they were acknowledged, `double` those that are there more than once.
"""

import argparse
import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from data.attribution.join import GRACE, attribute
from data.log.loops import begun_folds
from data.log.store import Store
from data.reward import RewardSpec
from data.schema import LOOP_V1, Decision, Feedback
from data.settings import Settings
from rl.artefacts.artefact import load
from rl.online.fold import FoldSpec
from rl.online.learner import OnlineLearner
from rl.online.snapshot import Snapshot
from rl.online.snapshots import Snapshots, SnapshotSettings
from serve.config import ServiceConfig
from serve.traffic.client import Client, connect
from serve.traffic.disorder import Delay, Disorder
from serve.traffic.driver import Driver, Plan
from serve.traffic.visits import Shoppers
from tests.bench.common import finish, say
from tests.support.clocks import Clock
from tests.support.faults.machine import GATEWAY, LEARNER, POLICY, Machine, machine
from tests.support.ledger import Ledger
from tests.support.services import KEY
from tests.support.shops import small_market

RATE, K = 12.0, 3
WAIT_S = 90.0
DISORDER = Disorder(
    Delay("uniform", (0.0, 5.0)),
    late=0.2,
    late_by_s=1.2 * WAIT_S,
    duplicates=0.2,
    lost=0.05,
    shuffled=1.0,
    shuffled_within_s=10.0,
)
SPEC = RewardSpec(wait_s=WAIT_S)
_CALM_S = 3.0
_CLOSED_S = 120.0  # after the last window


@dataclass
class Sent:
    """What the customers have reported, once each, in the order in which they did it."""

    in_time: list[dict[str, Any]] = field(default_factory=list)
    late: list[dict[str, Any]] = field(default_factory=list)

    def note(self, report: dict[str, Any], late: bool, times: Sequence[float]) -> None:
        """Keep a report that is sent at all."""
        if times:
            (self.late if late else self.in_time).append(report)


def main() -> None:
    """Do all that, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.exactly_once", description=__doc__)
    parser.add_argument("--visits", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(SystemExit(1)))  # what was started ends with it
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder, threadpool_limits(1, "blas"):
        home = Path(folder)
        settings, config = Settings(home=home, store=None, archive=None), configure(home)
        with machine(config, settings, {}) as place, killing(place, options.seed) as killed:
            driver, client, sent = use(place, options.visits, options.seed)
            killed.stop()
            lost, double = ledger(driver).compare(settings.store_url)
            snapshot = wait_for_the_end(settings, max(driver.traffic.feedback.values()))
        learned, rewards = dict(snapshot.policies[POLICY]), earned(settings.store_url)
        clean, clean_rewards = learn_cleanly(settings, sent, home / "clean.db")
    for line in [*lost[:5], *double[:5], *driver.traffic.examples]:
        say(f"  {line}")
    by_array = {name: difference(learned[name], clean[name]) for name in sorted(clean)}
    of_rewards = max(abs(rewards[name] - clean_rewards[name]) for name in clean_rewards)
    say(f"  statistics differ by {by_array}, rewards of {len(rewards):,} decisions by {of_rewards}")
    reports = driver.traffic.reports
    figures = {"lost": len(lost), "double": len(double), "max_difference": max(*by_array.values(), of_rewards)}
    peers = {
        "decisions": len(driver.traffic.decisions),
        **{f"reports_{name}": reports[name] for name in ("made", "twice", "late", "lost", "known")},
        "replicas_killed": killed.count[GATEWAY],
        "learners_killed": killed.count[LEARNER],
        "sent_again": client.refusals.total(),
        "largest_statistic": float(max(np.abs(values).max() for values in clean.values())),
    }
    finish("exactly_once", figures, peers, seeds=1)


def configure(home: Path) -> ServiceConfig:
    """Return the service's configuration."""
    return ServiceConfig(
        policies={POLICY: 1.0}, reward=SPEC, snapshots=SnapshotSettings(every_s=2.0), access_log=False, home=str(home)
    )


@dataclass
class Killed:
    """Who kills, and how often it was done."""

    count: dict[str, int] = field(default_factory=lambda: {GATEWAY: 0, LEARNER: 0})
    enough: Event = field(default_factory=Event)

    def stop(self) -> None:
        """Kill no more."""
        self.enough.set()


@contextmanager
def killing(place: Machine, seed: int) -> Iterator[Killed]:
    """Kill a replica or the learner meanwhile, a few seconds after all is whole."""
    killed, rng = Killed(), np.random.default_rng([seed, 1])

    def kill() -> None:
        while not killed.enough.wait(_CALM_S + rng.exponential(_CALM_S)):
            if place.is_whole():
                what = (GATEWAY, LEARNER)[rng.integers(2)]
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(place.find(what)), signal.SIGKILL)
                    killed.count[what] += 1

    thread = Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        killed.stop()
        thread.join()


def use(place: Machine, visits: int, seed: int) -> tuple[Driver, Client, Sent]:
    """Let the customers visit and report; returns what came of it when everything is acknowledged."""
    sent, plan = Sent(), Plan(visits, rate=RATE, seed=seed, name="once", disorder=DISORDER)

    async def run() -> tuple[Driver, Client]:
        async with connect(KEY, timeout_s=10.0) as session:
            client = Client(session, lambda: [place.running.url], attempts=1_000)
            driver = Driver(Shoppers(small_market()[0], K, SPEC), client, plan, strict=True, on_report=sent.note)
            await driver.drive()
            return driver, client

    return *asyncio.run(run()), sent


def ledger(driver: Driver) -> Ledger:
    """Return what was acknowledged."""
    return Ledger(driver.traffic.decisions, driver.traffic.feedback)


def wait_for_the_end(settings: Settings, until: int) -> Snapshot:
    """Return the state of the fold that has come farthest once no window is open any more.

    A learner that was killed begins another fold, from the last snapshot of the one before.

    Args:
        settings: where log and snapshots are.
        until: log position of the last feedback.

    Raises:
        AssertionError: it is not so in time.
    """
    deadline, snapshots = monotonic() + WAIT_S + _CLOSED_S, Snapshots(settings)
    with closing(Store.open(settings.store_url)) as store:
        last, _ = store.decisions()[-1]
        while True:
            begun = {version.fold_id for version in begun_folds(store, LOOP_V1, "default")}
            found = [snapshot for fold_id in begun if (snapshot := snapshots.before(fold_id, 1 << 60))]
            for snapshot in found:
                cursor = snapshot.cursor
                if (cursor.decision_seq, cursor.feedback_seq) >= (last, until) and not len(snapshot.windows["seqs"]):
                    return snapshot
            assert monotonic() < deadline, f"windows are still open: {[snapshot.cursor for snapshot in found]}"
            sleep(1.0)


def read(url: str) -> tuple[list[Decision], dict[str, list[Feedback]]]:
    """Return the decisions of a log in its order, with their feedback."""
    with closing(Store.open(url)) as store:
        decisions = [decision for _, decision in store.decisions()]
        return decisions, store.feedback_of([decision.decision_id for decision in decisions])


def earned(url: str) -> dict[str, float]:
    """Return the reward of each decision of a log whose windows are closed."""
    decisions, feedback = read(url)
    end = decisions[-1].time + timedelta(days=1)
    return {one.decision_id: attribute(one, feedback.get(one.decision_id, []), SPEC, end).reward for one in decisions}


def learn_cleanly(settings: Settings, sent: Sent, path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
    """Learn the decisions of the log and all that was sent of them, once each, in order, the late ones late.

    Returns:
        The policy's statistics, and the reward of each decision.
    """
    decisions, _ = read(settings.store_url)
    about: dict[str, list[Feedback]] = {}
    for report in sent.in_time:
        about.setdefault(report["decision_id"], []).append(Feedback(**report))
    clock, url = Clock(decisions[0].time), f"sqlite:///{path}"
    artefact = load(settings.home / "policies" / POLICY)
    with closing(Store.open(url, clock)) as store:
        learner = OnlineLearner(store, {POLICY: artefact}, FoldSpec(reward=SPEC), clock)
        for decision in sorted(decisions, key=lambda decision: decision.time):
            clock.now = max(clock.now, decision.time)
            store.insert([decision])
            clock.advance(0.001)
            if reports := about.get(decision.decision_id):
                store.insert(reports)
        learner.catch_up()
        clock.advance(1.2 * WAIT_S)
        store.insert([Feedback(**report) for report in sent.late])
        clock.advance((WAIT_S + GRACE.total_seconds()) * 2)
        learner.catch_up()
        assert not learner.waiting
    return artefact.policy.state_dict(), earned(url)


def difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the largest difference between two arrays; infinite where they are not of one shape."""
    return float(np.abs(one - other).max(initial=0.0)) if one.shape == other.shape else float("inf")


if __name__ == "__main__":
    main()
