"""Conformance: every policy of ours keeps its promises, and one that breaks a promise is told which."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import get_args

import numpy as np
import pytest

from data.features.rfm import N_STATES
from data.schema import Features
from rl.encoders.visit import Visit
from rl.policies import (
    CrossedConfig,
    LinearThompsonConfig,
    PolicyConfig,
    RidgeConfig,
    SlateTransformerConfig,
    TransformerConfig,
)
from rl.policies.forgetting.config import Forgetting
from rl.policies.transformer.config import QNetworkConfig
from rl.policy.arrays import BoolArray, FloatArray, IntArray, check_array
from rl.policy.conformance import PROMISES, ConformanceError, check_policy
from rl.policy.draws import sample_one
from rl.policy.explanation.parts import TOP, Contribution, Explanation, ItemExplanation, Names
from rl.policy.explorers import EpsilonGreedy
from rl.policy.interface import Constraint, Explorer, Policy
from rl.policy.queries import N_OUTCOMES, Impressions, Query, Slates
from rl.policy.samples import Samples, make_samples
from tests.support.described import ENCODER, TIME
from tests.support.policies import CONFIGS, F, N, name_of, untrained

FORGETTING = Forgetting(shortest=8, rates=2)
ANY = [
    *CONFIGS,
    *(LinearThompsonConfig(samples=20, models=models, forgetting=FORGETTING) for models in ("shared", "per_item")),
    CrossedConfig(),
    CrossedConfig(forgetting=FORGETTING),
    CrossedConfig(explorer=EpsilonGreedy(), noise_sd=0.5),
]


def samples_for(config: PolicyConfig) -> Samples:
    rng = np.random.default_rng(5)
    if not isinstance(config, CrossedConfig):
        return make_samples(rng, n_features=F, n_items=N, n_states=N_STATES)
    kinds, n = ("a", "b", "c", "d"), 60
    whole = ENCODER.query([visit(rng, kinds) for _ in range(n)])
    positions = rng.integers(len(kinds), size=(n, 1))
    slates = Slates(positions, np.ones((n, 1)), np.zeros((n, 1)))
    impressions = Impressions.of_slates(whole, slates, rng.choice([0.0, 1.0, 5.0], (n, 1)))
    return Samples(
        ENCODER.query([visit(rng, kinds) for _ in range(8)]), replace(impressions, at=np.arange(1.0, n + 1.0))
    )


def visit(rng: np.random.Generator, kinds: tuple[str, ...]) -> Visit:
    features = Features.model_validate(
        {
            "context": ({"where": f"page{rng.integers(3)}", "hour": float(rng.integers(5))},),
            "items": tuple(({"kind": kind, "price": float(rng.integers(4))},) for kind in kinds),
        }
    )
    return Visit(None, TIME, kinds, {}, features)


@pytest.mark.heavy
@pytest.mark.parametrize("config", ANY, ids=name_of)
def test_every_policy_keeps_its_promises(config: PolicyConfig) -> None:
    k = config.slate if isinstance(config, SlateTransformerConfig) else 3
    check_policy(lambda: untrained(config), samples_for(config), np.random.default_rng(0), k)


def test_every_kind_is_checked() -> None:
    union, _ = get_args(PolicyConfig)
    assert {type(config) for config in ANY} == set(get_args(union))


@pytest.mark.heavy
def test_a_network_with_a_history_keeps_its_promises() -> None:
    samples, rng = make_samples(np.random.default_rng(1), n_features=F, n_items=N), np.random.default_rng(2)
    age = np.arange(7, 0, -1) * (np.arange(7) >= rng.integers(8, size=(len(samples.query), 1)))
    entries = np.stack([rng.integers(N + 2, size=age.shape), rng.integers(N_OUTCOMES, size=age.shape), age], axis=2)
    query = replace(samples.query, history=entries * (age > 0)[:, :, None])
    for config in (TransformerConfig(network=QNetworkConfig(width=8)), SlateTransformerConfig()):
        make = partial(untrained, config)
        check_policy(make, replace(samples, query=query), np.random.default_rng(0))


class Means(Policy):
    """The mean reward of each item, shrunk: as short as a policy of one's own can be."""

    def __init__(self) -> None:
        self.explorer: Explorer = EpsilonGreedy(epsilon=0.2)
        self._sums, self._counts = np.zeros(N + 1), np.ones(N + 1)

    def expected(self, query: Query) -> FloatArray:
        means: FloatArray = (self._sums / self._counts)[query.items]
        return means

    def update(self, impressions: Impressions) -> None:
        np.add.at(self._sums, impressions.items, impressions.rewards)
        np.add.at(self._counts, impressions.items, impressions.counts)

    def state_dict(self) -> dict[str, FloatArray]:
        return {"sums": self._sums.copy(), "counts": self._counts.copy()}

    def load_state_dict(self, state: dict[str, FloatArray]) -> None:
        self._sums, self._counts = (check_array(state, name, (N + 1,)) for name in ("sums", "counts"))


class Exploring(Means):
    """With an explorer that is wrong."""

    def __init__(self, probabilities: Callable[[FloatArray, BoolArray], FloatArray]) -> None:
        super().__init__()
        self.explorer = Wrong(probabilities)


class Wrong:
    def __init__(self, probabilities: Callable[[FloatArray, BoolArray], FloatArray]) -> None:
        self.probabilities = probabilities

    def parts(self, scores: FloatArray, mask: BoolArray) -> dict[str, FloatArray]:
        return {"wrong": self.probabilities(scores, mask)}

    def slate(
        self, scores: FloatArray, mask: BoolArray, k: int, rng: np.random.Generator
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        return sample_one(lambda left: self.probabilities(scores[None], left[None])[0], mask, k, rng)


class Claiming(Means):
    """Logs the probability of a uniform draw."""

    def decide(self, query: Query, k: int, rng: np.random.Generator, constraint: Constraint | None = None) -> Slates:
        slates = super().decide(query, k, rng, constraint)
        return replace(slates, propensities=np.full(slates.positions.shape, 1 / N))


class Pretending(Means):
    """Says what its explorer would have drawn, with the right probability, and shows the best."""

    def decide(self, query: Query, k: int, rng: np.random.Generator, constraint: Constraint | None = None) -> Slates:
        slates = super().decide(query, k, rng, constraint)
        scores, left, each = self.score(query, rng)[0], query.mask.copy(), np.arange(len(query))
        for slot in range(k):
            p = self.explorer.probabilities(scores, left)
            chosen = slates.positions[:, slot] = p.argmax(axis=1)
            slates.propensities[:, slot], left[each, chosen] = p[each, chosen], False
            slates.scores[:, slot] = scores[each, 0, chosen]
        return slates


class Doubtful(Means):
    """Learns what it is taught, and something of its own."""

    made = 0

    def update(self, impressions: Impressions) -> None:
        Doubtful.made += 1
        super().update(impressions)
        self._sums += 1e-12 * Doubtful.made


class Forgetful(Means):
    """Believes what it saw last."""

    def update(self, impressions: Impressions) -> None:
        self._sums *= 0.9
        super().update(impressions)


class Stubborn(Means):
    """Takes no correction."""

    def update(self, impressions: Impressions) -> None:
        super().update(impressions.rows(impressions.counts > 0))


class Rounding(Means):
    """Saves half of what it knows."""

    def state_dict(self) -> dict[str, FloatArray]:
        return {name: 3 * np.round(array / 3, 6) for name, array in super().state_dict().items()}


class Lending(Means):
    """Saves its own arrays, and goes on writing in them."""

    def state_dict(self) -> dict[str, FloatArray]:
        return {"sums": self._sums, "counts": self._counts}


class Choosy(Means):
    """Knows nothing of what it does not know."""

    def expected(self, query: Query) -> FloatArray:
        known: FloatArray = np.where((query.items > 0).any(axis=1, keepdims=True), super().expected(query), np.nan)
        return known


class Exploding(Means):
    """Expects the exponential of a reward's hundredth."""

    def expected(self, query: Query) -> FloatArray:
        with np.errstate(over="ignore"):
            grown: FloatArray = np.exp(super().expected(query) / 100)
        return grown


class Boasting(Means):
    """Says that half of what it expects is all of it."""

    def explain(self, query: Query, positions: Sequence[int], names: Names, top: int = TOP) -> Explanation:
        scores = self.expected(query)[0, list(positions)].tolist()
        halves = (ItemExplanation(one, 0.0, (Contribution(("mean",), one, one / 2),)) for one in scores)
        return Explanation("exact", tuple(halves))


def test_a_policy_of_ones_own_keeps_its_promises() -> None:
    check_policy(Means, samples_for(RidgeConfig()), np.random.default_rng(0))


def everywhere(scores: FloatArray, mask: BoolArray) -> FloatArray:
    return np.full(mask.shape, 1 / mask.shape[1])


def short(scores: FloatArray, mask: BoolArray) -> FloatArray:
    p: FloatArray = 0.9 * mask / mask.sum(axis=1, keepdims=True)
    return p


@pytest.mark.parametrize(
    ("make", "promise", "numbers"),
    [
        (partial(Exploring, short), "the distribution sums to one", "sum to 0.9, not 1"),
        (partial(Exploring, everywhere), "the mask is kept", "masked out has probability 0.16"),
        (Claiming, "propensities are exact", "slot 0 was logged with 0.16.*, not 0"),
        (
            Pretending,
            "propensities are exact",
            "for slot 0 1000 times of 1000, where its probabilities sum to 8",
        ),
        (Doubtful, "the same seed gives the same", "another array 'sums'"),
        (Forgetful, "the order of updates does not count", "learned one by one, the expected reward is"),
        (Stubborn, "a correction is as the final reward", "after a correction, the expected reward is"),
        (Rounding, "a saved policy is the same", "query"),
        (Lending, "a saved policy is the same", "another array"),
        (Choosy, "unknown users and items are answered", "PolicyError: a query has no candidate left"),
        (Boasting, "an explanation adds up", "the method is exact, and the sum is off the score by"),
        (Exploding, "any scale of rewards is finite", r"with rewards up to 1e\+09"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", "exploring"),
)
def test_who_breaks_a_promise_is_told_which(make: Callable[[], Policy], promise: str, numbers: str) -> None:
    with pytest.raises(ConformanceError, match=numbers) as caught:
        check_policy(make, samples_for(RidgeConfig()), np.random.default_rng(0))
    assert caught.value.promise == promise
    assert promise in PROMISES
