"""The coffee machine as Personalizer's clients describe it, and a policy that answers it request by request."""

from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import numpy as np

from data.schema import Features
from rl.encoders.json_features import FeaturesEncoder
from rl.encoders.visit import Visit
from rl.policies import CrossedConfig, build
from rl.policies.crossed.policy import CrossedBandit
from rl.policy.arrays import FloatArray
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query
from rl.simulators.bandits.coffee import preferences

TIME = datetime(2026, 1, 1, tzinfo=UTC)
USERS = ("Alice", "Bob", "Cathy", "Dave")
WEATHERS = ("Sunny", "Rainy", "Snowy")
TIMES = ("Morning", "Afternoon", "Evening")
COFFEES = ("Cappuccino", "Cold brew", "Iced mocha", "Latte")
KINDS = ("hot", "cold", "iced", "warm")
ENCODER = FeaturesEncoder(())


def untrained(**settings: object) -> CrossedBandit:
    policy = build(CrossedConfig.model_validate(settings), 0, 1, np.zeros(1))
    assert isinstance(policy, CrossedBandit)
    return policy


def asked(candidates: tuple[str, ...], context: Mapping[str, object], items: tuple[object, ...] = ()) -> Query:
    """Ask one question; context and items are one object of features each."""
    described = Features.model_validate({"context": (context,), "items": tuple((item,) for item in items)})
    return ENCODER.query([Visit(None, TIME, candidates, {}, described)])


def coffee(user: int, weather: int, time: int) -> Query:
    features = Features(
        context=({"user": USERS[user]}, {"weather": WEATHERS[weather]}, {"time": TIMES[time]}),
        items=tuple(({"type": kind},) for kind in KINDS),
    )
    return ENCODER.query([Visit(None, TIME, COFFEES, {}, features)])


def play(
    policy: Policy,
    requests: int,
    ask: Callable[[np.random.Generator], tuple[Query, FloatArray]],
    delay: int = 0,
    sign: float = 1.0,
    noise: float = 0.0,
) -> FloatArray:
    """Answer requests, learning from each after `delay` more; returns what each chosen item earns on average.

    `ask` draws a query and the mean rewards of its candidates; `sign` is what rewards are multiplied with for learning.
    """
    rng, waiting, earned = np.random.default_rng(0), deque[Impressions](), np.empty(requests)
    for request in range(requests):
        query, means = ask(rng)
        slates = policy.decide(query, 1, rng)
        earned[request] = means[slates.positions[0, 0]]
        reward = earned[request] + noise * rng.standard_normal()
        waiting.append(Impressions.of_slates(query, slates, np.array([[sign * reward]])))
        if len(waiting) > delay:
            policy.update(waiting.popleft())
    return earned


def ask_coffee(rng: np.random.Generator) -> tuple[Query, FloatArray]:
    user, weather, time = (int(rng.integers(n)) for n in (4, 3, 3))
    return coffee(user, weather, time), np.eye(4)[preferences()[user, weather, time]]
