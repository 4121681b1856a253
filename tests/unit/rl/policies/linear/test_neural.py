"""The neural-linear policy: what is kept, when it refreshes, and that a refresh is a posterior over new features."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from rl.policies.linear.config import NeuralLinearConfig, RidgeConfig
from rl.policies.linear.neural import NeuralLinear
from rl.policies.linear.neural_training import train
from rl.policies.linear.per_item import PerItem
from rl.policies.linear.window import ImpressionWindow
from rl.policy.explorers import EpsilonGreedy
from rl.policy.queries import DENSE, Impressions, Query

CONFIG = NeuralLinearConfig(
    head=RidgeConfig(models="per_item", explorer=EpsilonGreedy(epsilon=0.0)),
    hidden=(16, 8),
    refresh_every=100,
    capacity=250,
    steps=40,
    batch=64,
)


def some(n: int, seed: int = 0) -> Impressions:
    """Item 1 earns |x|, item 2 earns -|x| + 1: no linear function of x."""
    rng = np.random.default_rng(seed)
    x, items = rng.uniform(-1, 1, (n, 1)), rng.integers(1, 3, size=n)
    rewards = np.where(items == 1, np.abs(x[:, 0]), 1 - np.abs(x[:, 0]))
    features = np.column_stack([x, np.ones(n)])
    return Impressions(features, np.zeros(n, dtype=np.int64), items, rewards, np.ones(n))


def query(n: int = 50) -> Query:
    features = np.column_stack([np.linspace(-1, 1, n), np.ones(n)])[:, None, :]
    return Query(features, np.zeros(n, np.int64), np.tile([1, 2, 0], (n, 1)), np.ones((n, 3), np.bool_))


def learner(config: NeuralLinearConfig = CONFIG) -> NeuralLinear:
    return NeuralLinear(config, n_features=2, n_items=2)


def test_memory_keeps_the_newest_in_order() -> None:
    memory, observations = ImpressionWindow(5, 2), some(12)
    for rows in (slice(0, 2), slice(2, 3), slice(3, 12)):
        memory.add(observations.rows(rows))
        kept = memory.impressions()
        newest = observations.rows(slice(max(0, rows.stop - 5), rows.stop))
        for name in DENSE:
            np.testing.assert_array_equal(getattr(kept, name), getattr(newest, name))
    assert len(memory) == 5
    assert memory.seen == 12


@pytest.mark.heavy
def test_after_a_refresh_the_head_is_the_posterior_over_the_kept_data() -> None:
    policy, observations = learner(), some(330)
    policy.update(observations)  # refreshed after 100, 200 and 300; 250 are kept
    direct = PerItem(RidgeConfig(models="per_item"), n_features=9, n_items=2)
    kept = observations.rows(slice(50, 330))  # at the refresh after 300 the kept ones were 50 to 299
    direct.update(replace(kept, features=policy.features(kept.features)))
    for name, array in direct.state_dict().items():
        np.testing.assert_allclose(policy.state_dict()[name], array, rtol=0, atol=1e-9)


@pytest.mark.heavy
@pytest.mark.parametrize("rows", [330, 100, 7, 1])
def test_refreshes_come_after_the_same_observations_however_calls_are_cut(rows: int) -> None:
    whole, parts, observations = learner(), learner(), some(330)
    whole.update(observations)
    for start in range(0, 330, rows):
        parts.update(observations.rows(slice(start, start + rows)))
    for name, array in whole.state_dict().items():
        np.testing.assert_allclose(parts.state_dict()[name], array, rtol=0, atol=1e-8)


def test_a_restored_policy_goes_on_as_the_saved_one() -> None:
    """Through the next refresh, which needs the kept data: bit for bit."""
    policy, restored = learner(), learner()
    policy.update(some(150))
    restored.load_state_dict(policy.state_dict())
    for one in (policy, restored):
        one.update(some(120, seed=1))
    for name, array in policy.state_dict().items():
        np.testing.assert_array_equal(restored.state_dict()[name], array)
    np.testing.assert_array_equal(restored.expected(query()), policy.expected(query()))


@pytest.mark.heavy
def test_the_network_learns_what_no_linear_model_can() -> None:
    policy = learner(CONFIG.model_copy(update={"steps": 800, "capacity": 1_000, "refresh_every": 1_000}))
    policy.update(some(1_000))
    x = np.abs(query().features[:, 0, 0])
    expected = policy.expected(query())[:, :2]
    error = np.abs(expected - np.column_stack([x, 1 - x])).max()
    linear = PerItem(RidgeConfig(models="per_item"), 2, 2)
    linear.update(some(1_000))
    assert error < 0.08
    assert np.abs(linear.expected(query())[:, 0] - x).max() > 0.4


def test_a_correction_trains_as_the_final_reward_does() -> None:
    """With every observation in every step (a batch of one kind of row) the gradients are the same."""
    final = some(1)
    first = Impressions(final.features, final.state, final.items, final.rewards - 0.25, final.counts)
    zeros = 0 * final.counts
    correction = Impressions(
        final.features,
        final.state,
        final.items,
        final.rewards - first.rewards,
        zeros,
        squares=final.rewards**2 - first.rewards**2,
    )
    both = Impressions.concatenate([first, correction])
    policy = learner()
    direct = policy.features(final.features)
    policy.update(both)
    head = PerItem(RidgeConfig(models="per_item"), 9, 2)
    head.update(Impressions(direct, final.state, final.items, final.rewards, final.counts))
    np.testing.assert_allclose(policy.state_dict()["b"], head.state_dict()["b"])
    np.testing.assert_allclose(policy.state_dict()["A"], head.state_dict()["A"])


def test_nothing_but_unknown_items_or_zero_rewards_leaves_the_network() -> None:
    layers = [(np.ones((2, 3)), np.zeros(3))]
    observations = some(10)
    unknown = Impressions(
        observations.features, observations.state, 0 * observations.items, observations.rewards, observations.counts
    )
    worthless = Impressions(
        observations.features, observations.state, observations.items, 0 * observations.rewards, observations.counts
    )
    for kept in (unknown, worthless):
        np.testing.assert_array_equal(train(layers, kept.features, kept, 2, CONFIG, seed=0)[0][0], layers[0][0])


@pytest.mark.heavy
def test_torch_is_imported_to_train_only() -> None:
    code = (
        "import sys, numpy as np\n"
        "from rl.policies import NeuralLinearConfig, build\n"
        "build(NeuralLinearConfig(), 3, 1, np.zeros(4))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
