"""Arms that swap, with a policy that forgets and one that does not: `python -m tests.bench.drift [--seeds N]`.

Ten arms earn 1 or 0 with probabilities from .05 to .95, in another order in each of three contexts. After half of
6,000 steps the best arm becomes the worst, the second best the second worst, and so on. Linear Thompson sampling with a
model for each arm plays, with nothing set but `forgetting`, as it is and without. Rewards are learned ten at a time.

`recovered` is the share of what was lost that is back after a tenth of the steps: with b the mean reward in the last
tenth before the swap, l what the decisions of that time earn after it, and a the mean reward in the 300 steps that
follow a tenth of the steps after the swap, (a - l) / (b - l). `price` is the regret over 6,000 steps where nothing
swaps, over that of the same policy without forgetting. One more player is told of the swap and begins anew: who learns
from the prior cannot have more back, but by chance. The peer is `bayesianbandits` with the same contexts: Thompson
sampling, normal-inverse-gamma regression for each arm, all arms decayed by each step; of three half-lives the one
that has the least regret in these very runs. As it explores for ever, it earns less before the swap, and loses less:
`rewards_ratio` is what ours earns over what the peer does in the 300 steps where `recovered` looks. Rewards that count
are the arms' probabilities.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from bayesianbandits import Arm, ContextualAgent, NormalInverseGammaRegressor, StabilizedForgetting, ThompsonSampling

from rl.policies import LinearThompsonConfig, OnlinePolicyConfig, build
from rl.policies.forgetting.config import Forgetting
from rl.policy.arrays import FloatArray, IntArray
from rl.policy.queries import Impressions, Query
from tests.bench.bandits import mean_curve, say, seeds_of, windowed
from tests.bench.common import finish, plot

N, ARMS, CONTEXTS = 6_000, 10, 3
TOGETHER = 10
SWAP, TENTH, LOOK = N // 2, N // 10, 300
FORGETS = LinearThompsonConfig(models="per_item", forgetting=Forgetting())
REMEMBERS = FORGETS.model_copy(update={"forgetting": None})
HALF_LIVES = (100, 400, 1_600)

Act = Callable[[int], int]
Learn = Callable[[IntArray, IntArray, FloatArray], None]


@dataclass(frozen=True)
class Run:
    """What was done."""

    contexts: IntArray
    """[N]"""
    arms: IntArray
    """[N]"""
    means: FloatArray
    """[N] probability of the arm that was taken."""
    best: FloatArray
    """[N]"""
    swapped: FloatArray
    """[contexts, arms] probabilities after the swap."""

    @property
    def recovered(self) -> float:
        """The share of the lost reward that is back."""
        last = slice(SWAP - TENTH, SWAP)
        before, lost = self.means[last].mean(), self.swapped[self.contexts[last], self.arms[last]].mean()
        return float((self.after - lost) / (before - lost))

    @property
    def after(self) -> float:
        """Mean reward in the steps that follow a tenth of the steps after the swap."""
        return float(self.means[SWAP + TENTH : SWAP + TENTH + LOOK].mean())

    @property
    def regret(self) -> float:
        """What the best arms would have earned more."""
        return float((self.best - self.means).sum())


def play(act: Act, learn: Learn, seed: int, swap: int) -> Run:
    """Let somebody play, in a world where the arms swap after some steps."""
    world, rng = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    probabilities = np.stack([world.permutation(np.linspace(0.05, 0.95, ARMS)) for _ in range(CONTEXTS)])
    contexts, luck = rng.integers(CONTEXTS, size=N), rng.random(N)
    arms, means, best = np.zeros(N, dtype=np.int64), np.zeros(N), np.zeros(N)
    for step in range(N):
        now = probabilities[contexts[step]] if step < swap else 1.0 - probabilities[contexts[step]]
        arms[step] = act(int(contexts[step]))
        means[step], best[step] = now[arms[step]], now.max()
        if (step + 1) % TOGETHER == 0:
            rows = slice(step + 1 - TOGETHER, step + 1)
            learn(contexts[rows], arms[rows], (luck[rows] < means[rows]).astype(np.float64))
    return Run(contexts, arms, means, best, 1.0 - probabilities)


def play_ours(config: OnlinePolicyConfig, seed: int, swap: int = SWAP, anew: int = N) -> Run:
    """Let a policy of ours play, which begins anew after some steps."""
    rng, learned = np.random.default_rng([seed, 2]), 0
    policy = build(config, CONTEXTS, 1, np.zeros(ARMS + 1))
    nothing, items, mask = np.zeros(1, dtype=np.int64), np.arange(1, ARMS + 1)[None], np.ones((1, ARMS), dtype=np.bool_)

    def act(context: int) -> int:
        query = Query(np.eye(CONTEXTS)[None, [context]], nothing, items, mask)
        return int(policy.decide(query, 1, rng).positions[0, 0])

    def learn(contexts: IntArray, arms: IntArray, rewards: FloatArray) -> None:
        nonlocal policy, learned
        n = len(arms)
        policy.update(Impressions(np.eye(CONTEXTS)[contexts], nothing.repeat(n), arms + 1, rewards, np.ones(n)))
        learned += n
        if learned == anew:
            policy = build(config, CONTEXTS, 1, np.zeros(ARMS + 1))

    return play(act, learn, seed, swap)


def play_peer(half_life: float | None, seed: int, swap: int = SWAP) -> Run:
    """Let bayesianbandits play; None: it never forgets."""
    arms = [Arm(arm, learner=NormalInverseGammaRegressor()) for arm in range(ARMS)]
    agent = ContextualAgent(arms, ThompsonSampling(), random_seed=seed)
    rule = StabilizedForgetting(0.5 ** (1 / half_life)) if half_life else None

    def act(context: int) -> int:
        return int(agent.pull(np.eye(CONTEXTS)[[context]])[0])

    def learn(contexts: IntArray, arms: IntArray, rewards: FloatArray) -> None:
        if rule is not None:
            agent.decay(forgetting=rule, steps=len(arms))
        for arm in np.unique(arms):
            agent.select_for_update(int(arm)).update(np.eye(CONTEXTS)[contexts[arms == arm]], rewards[arms == arm])

    return play(act, learn, seed, swap)


def main() -> None:
    """Play, and print one JSON object as the last line."""
    seeds = seeds_of("drift", __doc__)
    warnings.filterwarnings("ignore")
    players: dict[str, Callable[[int], Run]] = {
        "forgets": partial(play_ours, FORGETS),
        "remembers": partial(play_ours, REMEMBERS),
        "is told": partial(play_ours, REMEMBERS, anew=SWAP),
        **{f"bayesianbandits, half-life {h}": partial(play_peer, h) for h in HALF_LIVES},
    }
    runs = dict[str, list[Run]]()
    for name, player in players.items():
        runs[name] = [player(seed) for seed in seeds]
        say(f"{name}: {np.mean([run.recovered for run in runs[name]]):.3f} back")
    recovered = {name: float(np.mean([run.recovered for run in of])) for name, of in runs.items()}
    for name, share in recovered.items():
        say(f"{name}: {share:.3f} back, regret {np.mean([run.regret for run in runs[name]]):.0f}")
    theirs = [name for name in runs if name.startswith("bayes")]
    peer = min(theirs, key=lambda name: sum(run.regret for run in runs[name]))
    still = {
        name: [play_ours(config, seed, N).regret for seed in seeds]
        for name, config in (("forgets", FORGETS), ("remembers", REMEMBERS))
    }
    say(f"nothing swaps: regret {still}")
    figures = {
        "recovered": round(recovered["forgets"], 3),
        "ratio_peer": round(recovered["forgets"] / recovered[peer], 3),
        "rewards_ratio": round(
            float(np.sum([r.after for r in runs["forgets"]]) / np.sum([r.after for r in runs[peer]])), 3
        ),
        "price": round(float(np.sum(still["forgets"]) / np.sum(still["remembers"])), 3),
    }
    peers = {
        "remembers_recovered": round(recovered["remembers"], 3),
        "told_recovered": round(recovered["is told"], 3),
        "bayesianbandits_recovered": round(recovered[peer], 3),
        "bayesianbandits_half_life": float(peer.rsplit(" ", 1)[1]),
        "regret": round(float(np.mean([run.regret for run in runs["forgets"]])), 1),
        "bayesianbandits_regret": round(float(np.mean([run.regret for run in runs[peer]])), 1),
    }
    curves = {
        name: mean_curve([windowed(run.means, 200) for run in runs[name]])
        for name in ("forgets", "remembers", "is told", peer)
    }
    plot("drift", curves, "steps", "mean probability of the last 200 rewards")
    finish("drift", figures, peers, len(seeds))


if __name__ == "__main__":
    main()
