"""Numbers of any size, and honest large ones: every policy goes on answering and learning."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data.features.rfm import N_STATES
from rl.policies import (
    LinearThompsonConfig,
    LinUCBConfig,
    NeuralLinearConfig,
    PolicyConfig,
    PopularityConfig,
    RFMBanditConfig,
    RidgeConfig,
    SlateTransformerConfig,
    TransformerConfig,
    build,
)
from rl.policies.linear.basis import Quadratic, RandomFourier
from rl.policies.linear.config import Relevance
from rl.policies.linear.posterior import factor
from rl.policies.slates.config import SlateNetworkConfig
from rl.policies.transformer.config import QNetworkConfig
from rl.policy.arrays import LARGEST, FloatArray, IntArray
from rl.policy.explorers import Softmax, SquareCB
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query
from tests.support.described import asked, untrained

F, ITEMS = 3, 3
HOSTILE = np.array([0.0, 1.0, -1.0, 1e-300, 5e-324, 1e15, -1e15, 1.7e12, 1.7e308, -1.7e308])
BASES = (Quadratic(), RandomFourier(n=6), RandomFourier(n=4, also="quadratic", squash=2.0))
CONFIGS: list[PolicyConfig] = [
    PopularityConfig(),
    RFMBanditConfig(explorer=Softmax()),
    *(
        config
        for given in ({}, {"noise_sd": 0.3}, {"regularisation": 1e-6})
        for config in (
            LinearThompsonConfig(samples=10, **given),
            LinUCBConfig(models="per_item", **given),
            RidgeConfig(models="per_item", explorer=SquareCB(), **given),
            RidgeConfig(explorer=Softmax(), **given),
        )
    ),
    *(LinearThompsonConfig(models="per_item", samples=10, basis=basis) for basis in BASES),
    *(LinUCBConfig(noise_sd=1.0, basis=basis) for basis in BASES),
    RidgeConfig(relevance=Relevance()),
    *(
        NeuralLinearConfig(head=head, hidden=(5,), refresh_every=40, capacity=100, steps=5, batch=16)
        for head in (LinearThompsonConfig(models="per_item", samples=10), LinUCBConfig(noise_sd=1.0))
    ),
    TransformerConfig(network=QNetworkConfig(width=8)),
    SlateTransformerConfig(network=SlateNetworkConfig(width=8), slate=2),
]


def made(config: PolicyConfig) -> Policy:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(config, F, N_STATES, np.array([0.0, 3.0, 9.0, 1.0]))


def rows(features: FloatArray, items: IntArray, rewards: FloatArray) -> Impressions:
    return Impressions(features, np.zeros(len(items), dtype=np.int64), items, rewards, np.ones(len(items)))


def ask(features: FloatArray) -> Query:
    """Ask about all items in B contexts [B, F]."""
    b = len(features)
    items = np.tile(np.arange(1, ITEMS + 1), (b, 1))
    return Query(features[:, None, :], np.zeros(b, dtype=np.int64), items, np.ones(items.shape, dtype=np.bool_))


def answers(policy: Policy, query: Query) -> None:
    p = policy.distribution(query, np.random.default_rng(0))
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-9)
    assert (p >= 0).all()
    slates = policy.decide(query, 2, np.random.default_rng(1))
    assert (slates.propensities > 0).all()
    assert np.isfinite(slates.scores).all()
    for name, array in policy.state_dict().items():
        assert np.isfinite(array).all(), name


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.kind}-{CONFIGS.index(c)}")
def test_no_number_ends_a_policy(config: PolicyConfig) -> None:
    """What hostile numbers have left can be saved, loaded, asked and taught ordinary ones."""
    rng = np.random.default_rng(0)
    policy = made(config)
    for _ in range(6):
        features = rng.choice(HOSTILE, (25, F))
        answers(policy, ask(features))
        if policy.learns:
            rewards = rng.choice([0.0, 1.0, -LARGEST, LARGEST, 1e-200], 25)
            policy.update(rows(features, rng.integers(ITEMS + 1, size=25), rewards))
    answers(policy, ask(rng.choice(HOSTILE, (25, F))))
    loaded = made(config)
    loaded.load_state_dict(policy.state_dict())
    if policy.learns:
        loaded.update(rows(rng.standard_normal((25, F)), rng.integers(1, ITEMS + 1, size=25), rng.random(25)))
    answers(loaded, ask(rng.standard_normal((25, F))))


@pytest.mark.parametrize("basis", ["identity", "quadratic", "random_fourier"])
@pytest.mark.parametrize("given", [{}, {"noise_sd": 0.1}], ids=["learned", "given"])
def test_a_category_is_learned_beside_timestamps(given: dict[str, float], basis: str) -> None:
    """Contexts are a time in milliseconds, and which of two kinds of visit it is: each kind wants one item."""
    rng, start = np.random.default_rng(0), 1.76e12
    config = LinearThompsonConfig.model_validate({"models": "per_item", "basis": {"kind": basis}, **given})
    policy = made(config)

    def contexts(n: int, first: int) -> tuple[FloatArray, IntArray]:
        kind = rng.integers(2, size=n)
        times = start + 1_000.0 * (first + np.arange(n))
        return np.column_stack([times, kind == 0, kind == 1]).astype(np.float64), kind

    for step in range(40):
        features, kind = contexts(20, 20 * step)
        items = rng.integers(1, ITEMS + 1, size=20)
        policy.update(rows(features, items, (items == kind + 1).astype(np.float64)))
    features, kind = contexts(50, 1_000)
    expected = policy.expected(ask(features))
    assert (expected.argmax(axis=1) == kind).mean() > 0.85  # half would be chance


def learned(policy: Policy, query: Query, position: int, reward: float) -> None:
    slates = policy.decide(query, 1, np.random.default_rng(0))
    shown = replace(slates, positions=np.array([[position]]))
    policy.update(Impressions.of_slates(query, shown, np.array([[reward]])))


@pytest.mark.slow
@pytest.mark.parametrize("noise_sd", [None, 0.3])
@pytest.mark.parametrize("interactions", ["::", ":::", "::::"])
def test_no_number_ends_a_described_policy(interactions: str, noise_sd: float | None) -> None:
    """Three visits with 1.7e308, as a log of before numbers had a bound may hold, and after them ordinary ones."""
    policy = untrained(interactions=(interactions,), noise_sd=noise_sd)
    items = ("a", "b")
    for number in (1.7e308, -1.7e308, 1e15):
        context = {"x": number, "y": -number, "z": [number, 1.0], "kind": "odd"}
        learned(policy, asked(items, context, ({"size": number}, {"size": -number})), 0, 1.0)
    again = untrained(interactions=(interactions,), noise_sd=noise_sd)
    again.load_state_dict(policy.state_dict())
    for number in range(60):
        kind = ("sun", "rain")[number % 2]
        for position in range(2):
            query = asked(items, {"kind": kind, "x": float(number % 3)})
            learned(again, query, position, float(position == number % 2))
    for position, kind in enumerate(("sun", "rain")):
        expected = again.expected(asked(items, {"kind": kind, "x": 1.0}))[0]
        assert expected.argmax() == position
    answers(again, asked(items, {"x": 1.7e308}))


@pytest.mark.heavy
@pytest.mark.parametrize("noise_sd", [None, 0.3])
def test_honest_timestamps_do_not_end_a_described_policy(noise_sd: float | None) -> None:
    """Milliseconds three times in each context, all multiplied with each other: nearly the same number all the time."""
    policy, items = untrained(interactions=(":::",), noise_sd=noise_sd, max_features=128), ("a", "b", "c")
    rng, parts = np.random.default_rng(0), []
    for number in range(600):
        now = 1.76e12 + 977.0 * number
        kind = int(rng.integers(3))
        context = {"now": now, "seen": now - 5e3, "since": now - 8.6e7, "kind": f"k{kind}"}
        query, position = asked(items, context), int(rng.integers(3))
        slates = replace(policy.decide(query, 1, rng), positions=np.array([[position]]))
        parts.append(Impressions.of_slates(query, slates, np.array([[float(kind == position)]])))
    many = Impressions.concatenate(parts)
    for _ in range(5):  # as many more make the sums large beside the prior
        policy.update(many)
    right = 0
    for kind in range(3):
        now = 1.76e12 + 1e6
        query = asked(items, {"now": now, "seen": now - 5e3, "since": now - 8.6e7, "kind": f"k{kind}"})
        right += int(policy.expected(query)[0].argmax() == kind)
        answers(policy, query)
    assert right == 3


def test_a_singular_sum_is_solved_as_if_it_were_not() -> None:
    x = np.array([1e15, 1e15, 1.0])
    lower = factor(1e3 * np.outer(x, x) + 1e-3 * np.diag([0.0, 0.0, 1.0]))
    assert np.isfinite(lower).all()
    assert (lower.diagonal() > 0).all()
    broken = factor(np.array([[1.0, 9.0], [9.0, -1.0]]))
    assert np.isfinite(broken).all()


def test_what_is_positive_definite_is_solved_as_it_is() -> None:
    A = np.array([[4.0, 2.0], [2.0, 3.0]])
    np.testing.assert_array_equal(factor(A), np.linalg.cholesky(A))
