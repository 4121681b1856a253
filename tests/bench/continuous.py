"""An hour of shop traffic, interests shift at half time: `python -m tests.bench.continuous [--seeds N]`.

Four learners answer the same visits of a generated shop, simulated second by second, from the same beginning: a policy
that has learned from ten minutes of traffic: 50 requests a second by 1,000 users. The shift gives every item the appeal
of another, drawn at random.

- the closed loop: what the service runs between two runs of `rl.continuous`. Decisions and reports go into a log, the
  online learner follows it every five seconds (that of the service within one), and the policy forgets. `rl.continuous`
  itself does not run: what it would train anew each half hour the online learner has learned by then
- frozen: the policy as it began
- the cycle of the replaced pipeline: each 30 minutes a policy is trained on what the last 30 have logged, and deployed
- the oracle, which knows what each customer wants

Requests say what there is to know of a customer: their segment. A click is reported up to five seconds after the
decision, and waited for 20 s. All rewards below are expected ones. `recovery_ratio` is the closed loop's time from the
shift until the mean of the next 30 s has .8 of what the oracle earns above frozen, over the cycle's, which is followed
until it has recovered, beyond the hour. `share_of_oracle_lift` is of the means of the second half hour.
"""

import argparse
import os
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from data.attribution.join import Outcome
from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Decision, Features, Feedback
from rl.artefacts.artefact import Artefact
from rl.encoders.json_features import FeaturesEncoder
from rl.encoders.visit import Visit
from rl.online.fold import FoldSpec
from rl.online.learner import OnlineLearner
from rl.online.observe import observe
from rl.policies import CrossedConfig
from rl.policies.forgetting.config import Forgetting
from rl.policy.arrays import FloatArray, IntArray
from rl.policy.interface import Policy
from rl.simulators.market.generated import GeneratedMarketConfig, generate_market
from rl.simulators.market.market import Market
from tests.bench.common import finish, plot, say
from tests.support.clocks import Clock

RATE, K = 50.0, 3  # decisions a second, slots
WARM_S, HALF_S, CYCLE_S, BEYOND_S = 600, 1_800, 1_800, 300
REPORTED_S, WAIT_S, FOLLOWED_S = 5, 20.0, 5
RECOVERED, WINDOW_S = 0.8, 30
SPEC = RewardSpec(wait_s=WAIT_S)
REMEMBERING = CrossedConfig()
POLICY = REMEMBERING.model_copy(update={"forgetting": Forgetting()})
MARKET = GeneratedMarketConfig(users=1_000, items=30, kinds=6, taste=0.0, whim=0.0, click_rate=0.15)
ENCODER = FeaturesEncoder(())


@dataclass(frozen=True)
class Second:
    """The visits of a second."""

    number: int
    segments: IntArray
    """[B]"""
    expected: FloatArray
    """[B, N] what each item would earn."""
    draws: FloatArray
    """[B, N] of the customers' answers, the same whoever decides."""
    clicks: FloatArray
    """[B, N] the probability of a click."""


@dataclass(frozen=True)
class World:
    """Who visits, and what they want before and after the shift."""

    before: Market
    after: Market

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "World":
        """Draw a shop, and to whose appeal each item's changes."""
        market, order = generate_market(MARKET, rng), rng.permutation(MARKET.items)
        after = replace(
            market,
            appeal=market.appeal[order],
            season=market.season[:, order],
            segment_taste=market.segment_taste[:, order],
        )
        return cls(market, after)

    def second(self, number: int, rng: np.random.Generator) -> Second:
        """Draw the visits of a second; from the half hour on interests have shifted."""
        market = self.before if number < HALF_S else self.after
        visitors = rng.choice(len(market.users), size=int(rng.poisson(RATE)), p=market.activity)
        month = np.zeros(len(visitors), dtype=np.int64)
        expected, clicks = market.expected_rewards(visitors, month, SPEC), market.click_probabilities(visitors, month)
        return Second(number, market.segment[visitors], expected, rng.random(expected.shape), clicks)


class Shop:
    """Answers visits by a policy, and says what was reported of them."""

    def __init__(self, items: Sequence[str]) -> None:
        self.items = tuple(items)
        self._described = tuple(({"id": item},) for item in self.items)

    def decide(
        self, policy: Policy, second: Second, clock: Clock, rng: np.random.Generator
    ) -> tuple[list[Decision], float, list[list[Feedback]]]:
        """Return the decisions, the mean of what they are expected to earn, and the reports about each."""
        visits = [self._visit(int(segment), clock) for segment in second.segments]
        slates = policy.decide(ENCODER.query(visits), K, rng)
        decisions, reports = list[Decision](), list[list[Feedback]]()
        for row, (visit, positions) in enumerate(zip(visits, slates.positions, strict=True)):
            name = f"{second.number}/{row}"
            decision = Decision(
                decision_id=name,
                time=clock(),
                candidates=self.items,
                slate=tuple(self.items[at] for at in positions),
                propensities=tuple(slates.propensities[row].tolist()),
                scores=(0.0,) * K,
                policy="loop",
                policy_version="0.0.0",
                features=visit.features,
            )
            decisions.append(decision)
            reports.append(self._report(decision, positions, second.draws[row], second.clicks[row]))
        earned = np.take_along_axis(second.expected, slates.positions, axis=1).sum(axis=1)
        return decisions, float(earned.mean()), reports

    def _visit(self, segment: int, clock: Clock) -> Visit:
        features = Features(context=({"segment": f"s{segment}"},), items=self._described)
        return Visit(None, clock(), self.items, {}, features)

    def _report(self, decision: Decision, shown: IntArray, draws: FloatArray, clicks: FloatArray) -> list[Feedback]:
        """Return a report of each item that is clicked, and of each that is bought then: of clicks half are."""
        found = []
        for at in shown.tolist():
            if draws[at] < clicks[at]:
                kind = "purchase" if draws[at] < clicks[at] * MARKET.buy_given_click else "click"
                name = f"{decision.decision_id}/{at}"
                found.append(
                    Feedback(feedback_id=name, decision_id=decision.decision_id, item_id=self.items[at], kind=kind)
                )
        return found


class Loop:
    """The closed loop: a log, and the learner that follows it."""

    def __init__(self, folder: Path, artefact: Artefact, clock: Clock) -> None:
        self.store = Store.open(f"sqlite:///{folder / 'store.db'}", clock)
        self._artefact = artefact
        self._learner = OnlineLearner(self.store, {"loop": artefact}, FoldSpec(reward=SPEC), clock)
        self._late = deque[tuple[int, Feedback]]()

    @property
    def policy(self) -> Policy:
        """What answers now."""
        return self._artefact.policy

    def follow(
        self, second: Second, decisions: list[Decision], reports: list[list[Feedback]], after_s: IntArray
    ) -> None:
        """Log a second, with what is reported in it of earlier ones, and learn."""
        self.store.insert(decisions)
        for about, wait in zip(reports, after_s.tolist(), strict=True):
            self._late.extend((second.number + wait, report) for report in about)
        due = [report for at, report in self._late if at <= second.number]
        self._late = deque((at, report) for at, report in self._late if at > second.number)
        self.store.insert(due)
        if second.number % FOLLOWED_S == 0:
            self._learner.catch_up()


class Cycle:
    """The replaced pipeline: what is logged in a cycle trains the policy that is deployed at its end."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self._next = policy, REMEMBERING.build(0, 1, ENCODER.popularity)

    def follow(self, second: Second, decisions: list[Decision], reports: list[list[Feedback]]) -> None:
        """Learn a second for the next policy, and deploy that when it is time."""
        if outcomes := [to_outcome(*of) for of in zip(decisions, reports, strict=True)]:
            self._next.update(observe(outcomes, ENCODER))
        if second.number > 0 and (second.number + 1) % CYCLE_S == 0:
            self.policy, self._next = self._next, REMEMBERING.build(0, 1, ENCODER.popularity)


def to_outcome(decision: Decision, reports: Sequence[Feedback]) -> Outcome:
    """Return what a decision has earned."""
    by_item = {report.item_id: SPEC.weights[report.kind] for report in reports}
    rewards = tuple(by_item.get(item, 0.0) for item in decision.slate)
    return Outcome(decision, rewards, sum(rewards), observed=bool(reports), closed=True)


def begin(world: World, shop: Shop, seed: int) -> Policy:
    """Return a policy that has learned from ten minutes of traffic."""
    policy, clock = POLICY.build(0, 1, ENCODER.popularity), Clock()
    of_visits, of_policy = (np.random.default_rng(child) for child in np.random.SeedSequence([seed, 0]).spawn(2))
    for number in range(-WARM_S, 0):
        second = world.second(number, of_visits)
        if len(second.segments):
            decisions, _, reports = shop.decide(policy, second, clock, of_policy)
            policy.update(observe([to_outcome(*of) for of in zip(decisions, reports, strict=True)], ENCODER))
    return policy


def play(seed: int) -> dict[str, FloatArray]:
    """Return the mean expected reward of a decision in each second, by who decides."""
    world = World.draw(np.random.default_rng([seed, 2]))
    shop, clock = Shop(world.before.items), Clock()
    first = begin(world, shop, seed)
    seconds = 2 * HALF_S + BEYOND_S
    earned = {name: np.full(seconds, np.nan) for name in ("closed loop", "frozen", "cycle", "oracle")}
    of_visits, of_reports, *of_policies = (np.random.default_rng(s) for s in np.random.SeedSequence([seed, 1]).spawn(5))
    artefact = Artefact(name="loop", config=POLICY, policy=deepcopy(first), encoder=ENCODER, reward=SPEC)
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder:
        loop, cycle = Loop(Path(folder), artefact, clock), Cycle(deepcopy(first))
        with closing(loop.store):
            for number in range(seconds):
                second = world.second(number, of_visits)
                if len(second.segments):
                    earned["oracle"][number] = np.sort(second.expected, axis=1)[:, -K:].sum(axis=1).mean()
                    if number < 2 * HALF_S:
                        _, earned["frozen"][number], _ = shop.decide(first, second, clock, of_policies[1])
                        of_loop = shop.decide(loop.policy, second, clock, of_policies[0])
                        decisions, earned["closed loop"][number], reports = of_loop
                        loop.follow(
                            second, decisions, reports, of_reports.integers(REPORTED_S + 1, size=len(decisions))
                        )
                    decisions, earned["cycle"][number], reports = shop.decide(
                        cycle.policy, second, clock, of_policies[2]
                    )
                    cycle.follow(second, decisions, reports)
                clock.advance(1.0)
    return earned


def recover(earned: FloatArray, frozen: float, oracle: float) -> float:
    """Return the seconds from the shift until the mean of the next ones is good enough; inf: it never is."""
    for at in range(HALF_S, len(earned) - WINDOW_S):
        if np.nanmean(earned[at : at + WINDOW_S]) >= frozen + RECOVERED * (oracle - frozen):
            return float(max(at - HALF_S, 1))
    return float("inf")


def measure(earned: Mapping[str, FloatArray]) -> dict[str, float]:
    """Return the figures of a seed."""
    second_half = {name: float(np.nanmean(of[HALF_S : 2 * HALF_S])) for name, of in earned.items()}
    frozen, oracle = second_half["frozen"], second_half["oracle"]
    ours = recover(earned["closed loop"][: 2 * HALF_S], frozen, oracle)
    theirs = recover(earned["cycle"], frozen, oracle)
    return {
        "recovered_s": ours,
        "cycle_recovered_s": theirs,
        "share_of_oracle_lift": (second_half["closed loop"] - frozen) / (oracle - frozen),
        "cycle_share": (second_half["cycle"] - frozen) / (oracle - frozen),
        "oracle_lift": oracle - frozen,
    }


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.continuous", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    runs, found = list[dict[str, FloatArray]](), list[dict[str, float]]()
    with ProcessPoolExecutor(
        min(options.seeds, os.cpu_count() or 1), initializer=threadpool_limits, initargs=(1,)
    ) as pool:
        for seed, earned in enumerate(pool.map(play, range(options.seeds))):
            runs.append(earned)
            found.append(measure(runs[-1]))
            say(f"seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in found[-1].items()))
    mean = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    theirs = mean["cycle_recovered_s"] if np.isfinite(mean["cycle_recovered_s"]) else HALF_S + BEYOND_S
    figures = {
        "recovery_ratio": round(mean["recovered_s"] / theirs, 4),
        "share_of_oracle_lift": round(mean["share_of_oracle_lift"], 4),
    }
    peers = {
        "recovered_s": round(mean["recovered_s"], 1),
        "cycle_recovered_s": round(theirs, 1),
        "cycle_share_of_oracle_lift": round(mean["cycle_share"], 4),
        "worst_share_of_oracle_lift": round(min(one["share_of_oracle_lift"] for one in found), 4),
    }
    minutes = np.arange(2 * HALF_S // 60)
    curves = {
        name: (
            minutes.tolist(),
            np.nanmean([run[name][: 2 * HALF_S].reshape(-1, 60) for run in runs], axis=(0, 2)).tolist(),
        )
        for name in runs[0]
    }
    plot("continuous", curves, "minutes; interests shift at 30", "expected reward of a decision")
    finish("continuous", figures, peers, options.seeds)


if __name__ == "__main__":
    main()
