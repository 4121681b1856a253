"""A bandit over JSON features learns the coffee machine, and contexts that never come again; broken ones do not."""

import numpy as np
import pytest

from rl.policies import RidgeConfig, build
from rl.policy.arrays import FloatArray
from rl.policy.explorers import EpsilonGreedy
from rl.policy.queries import Query
from tests.support.described import ask_coffee, asked, play, untrained

PLACES = ("beach", "city", "forest", "hills")
SLOPES = np.array([[0.8, 0.0, -0.3], [-0.8, 0.3, 0.0], [0.0, -0.8, 0.3], [0.3, 0.8, -0.8]])


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 50])
def test_coffee_is_learned(delay: int) -> None:
    earned = play(untrained(epsilon=0.01), 10_000, ask_coffee, delay)
    print(f"delay {delay}: mean {earned.mean():.4f}, last 1,000 {earned[-1000:].mean():.4f}; random .25, fixed .306")
    assert earned.mean() >= (0.97 if delay == 0 else 0.965)
    assert earned[-1000:].mean() >= 0.985


@pytest.mark.slow
@pytest.mark.parametrize(("broken", "sign"), [({"cell_sd": 0.0}, 1.0), ({}, -1.0)])
def test_coffee_is_not_learned_without_cells_nor_from_the_opposite(broken: dict[str, float], sign: float) -> None:
    earned = play(untrained(epsilon=0.01, **broken), 3_000, ask_coffee, sign=sign)
    print(f"{broken} {sign}: last 1,000 {earned[-1000:].mean():.4f}")
    assert earned[-1000:].mean() < 0.9


def ask_weather(rng: np.random.Generator) -> tuple[Query, FloatArray]:
    """Numbers and a request's own name, neither of which comes again: each place is best in a part of all weathers."""
    weather = rng.standard_normal(3)
    named = dict(zip(("temperature", "wind", "rain"), weather.tolist(), strict=True))
    query = asked(PLACES, {"weather": named, "request": f"{rng.integers(2**62)}"})
    return query, SLOPES @ weather


@pytest.mark.slow
def test_contexts_that_never_come_again_are_generalised_over() -> None:
    rng = np.random.default_rng(1)
    means = [ask_weather(rng)[1] for _ in range(2_000)]
    oracle, fixed = float(np.mean([m.max() for m in means])), float(np.mean(means, axis=0).max())
    earned = play(untrained(epsilon=0.02), 2_000, ask_weather, noise=0.3)[500:].mean()
    greedy = build(RidgeConfig(models="per_item", explorer=EpsilonGreedy(epsilon=0.1)), 1, 1, np.zeros(5))

    def without_context(rng: np.random.Generator) -> tuple[Query, FloatArray]:
        _, rewards = ask_weather(rng)
        return Query(
            np.ones((1, 1, 1)), np.zeros(1, np.int64), np.arange(1, 5)[None], np.ones((1, 4), np.bool_)
        ), rewards

    means_only = play(greedy, 2_000, without_context, noise=0.3)[500:].mean()
    print(f"oracle {oracle:.3f}, ours {earned:.3f}, epsilon-greedy on means {means_only:.3f}, best fixed {fixed:.3f}")
    assert earned > 0.9 * oracle
    assert means_only < 0.3 * oracle
