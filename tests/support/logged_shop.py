"""Sessions in the simulated shop, as the service would have logged them."""

import numpy as np

from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Decision, Feedback
from rl.policy.arrays import FloatArray
from rl.simulators.shop.shop import PRODUCTS, STEPS, Shop
from tests.support.clocks import Clock

ITEMS = tuple(f"p{number:02}" for number in range(1, PRODUCTS + 1))
"""In the order of the simulator's products."""
SPEC = RewardSpec(weights={"click": 1.0, "reject": 0.0}, wait_s=600.0, session_gap_s=1_800.0)
EVERY_S = 60.0


def write_sessions(store: Store, clock: Clock, users: int, seed: int) -> float:
    """Log a session of 20 decisions of each user, all at once; returns the mean of what they have clicked.

    Half of the time a product is drawn from all, else the one that was clicked last is shown again.
    """
    env, rng = Shop(users), np.random.default_rng(seed)
    env.reset(seed=seed)
    liked, earned = np.full(users, -1), np.zeros(users)
    for step in range(STEPS):
        p: FloatArray = np.full((users, PRODUCTS), 1 / PRODUCTS)
        known = np.flatnonzero(liked >= 0)
        p[known] *= 0.5
        p[known, liked[known]] += 0.5
        shown = np.array([rng.choice(PRODUCTS, p=row) for row in p])
        _, rewards, *_ = env.step(shown)
        earned += rewards
        liked = np.where(rewards > 0, shown, liked)
        decisions = [
            Decision(
                decision_id=f"s{seed}u{user}d{step}",
                time=clock(),
                user_id=f"s{seed}u{user}",
                candidates=ITEMS,
                slate=(ITEMS[item],),
                propensities=(float(p[user, item]),),
                scores=(0.0,),
                policy="keeper",
                policy_version="0.0.0",
            )
            for user, item in enumerate(shown.tolist())
        ]
        store.insert(decisions)
        clock.advance(5.0)
        store.insert(
            [
                Feedback(feedback_id=d.decision_id, decision_id=d.decision_id, kind="click" if clicked else "reject")
                for d, clicked in zip(decisions, rewards, strict=True)
            ]
        )
        clock.advance(EVERY_S - 5.0)
    return float(earned.mean())
