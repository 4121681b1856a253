"""Explorers and slates: probabilities worked out by hand, and frequencies of 200,000 draws against them."""

from itertools import permutations
from math import e
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from rl.policy.arrays import FloatArray
from rl.policy.draws import sample
from rl.policy.errors import PolicyError
from rl.policy.explorers import (
    EpsilonGreedy,
    Softmax,
    SquareCB,
    Uniform,
    Votes,
    WithUniform,
)
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query
from tests.support.markets import four_errors

DRAWS = 200_000
Exploration = Uniform | EpsilonGreedy | Softmax | SquareCB | Votes

POINTS = np.array([[0.5, 0.3, 0.1, 0.9, 0.3]])  # [S, A]; the highest is masked
SAMPLES = np.array(  # the first wins 3 of 5, the second and the third half of one each, the fifth 1
    [
        [1.0, 0.0, 0.5, 9.0, 0.0],
        [0.0, 2.0, 2.0, 9.0, 0.0],
        [3.0, 1.0, 0.0, 9.0, 2.0],
        [0.0, 0.0, -1.0, 9.0, 1.0],
        [1.0, 0.5, 0.0, 9.0, 0.9],
    ]
)
MASK = np.array([True, True, True, False, True])

RATIOS = np.array([1, 1 / e, 1 / e**2, 0, 1 / e])  # gaps of one and two temperatures
BY_HAND: list[tuple[Exploration, FloatArray, list[float]]] = [
    (Uniform(), POINTS, [1 / 4, 1 / 4, 1 / 4, 0, 1 / 4]),
    (EpsilonGreedy(epsilon=0.2), POINTS, [0.05 + 0.8, 0.05, 0.05, 0, 0.05]),
    (Softmax(temperature=0.2), POINTS, list(RATIOS / RATIOS.sum())),
    (SquareCB(gamma=10), POINTS, [1 - 1 / 6 - 1 / 8 - 1 / 6, 1 / (4 + 10 * 0.2), 1 / (4 + 10 * 0.4), 0, 1 / 6]),
    (Votes(floor=0.1), SAMPLES, [0.025 + 0.9 * 3 / 5, 0.025 + 0.9 / 10, 0.025 + 0.9 / 10, 0, 0.025 + 0.9 / 5]),
]
KINDS = [explorer.kind for explorer, _, _ in BY_HAND]


class Fixed(Policy):
    """Scores [S, A] that are the same for every query."""

    def __init__(self, explorer: Exploration, scores: FloatArray) -> None:
        self.explorer = explorer
        self._scores = scores

    def expected(self, query: Query) -> FloatArray:
        return np.broadcast_to(self._scores.mean(axis=0), query.mask.shape)

    def scores(self, query: Query, rng: np.random.Generator) -> FloatArray:
        return np.broadcast_to(self._scores, (len(query), *self._scores.shape))

    def update(self, observations: Impressions) -> None: ...

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        return {}

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None: ...


def queries(n: int, mask: NDArray[np.bool_] = MASK) -> Query:
    shape = (n, len(mask))
    return Query(
        features=np.zeros((*shape, 1)),
        state=np.zeros(n, dtype=np.int64),
        items=np.broadcast_to(np.arange(1, len(mask) + 1), shape),
        mask=np.broadcast_to(mask, shape),
    )


@pytest.mark.parametrize(("explorer", "scores", "by_hand"), BY_HAND, ids=KINDS)
def test_probabilities_by_hand(explorer: Exploration, scores: FloatArray, by_hand: list[float]) -> None:
    p = Fixed(explorer, scores).distribution(queries(2), np.random.default_rng(0))
    np.testing.assert_allclose(p, [by_hand, by_hand], atol=1e-12)


@pytest.mark.parametrize("explorer", [Uniform(), EpsilonGreedy(), Softmax(), SquareCB(), Votes()], ids=KINDS)
def test_random_scores_give_distributions(explorer: Exploration) -> None:
    rng = np.random.default_rng(1)
    mask = rng.random((500, 7)) < 0.6
    mask[:, 2] = True
    p = explorer.probabilities(5 * rng.standard_normal((500, 9, 7)), mask)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)
    assert p.min() >= 0
    assert not p[~mask].any()


@pytest.mark.parametrize("explorer", [Uniform(), EpsilonGreedy(), Softmax(), SquareCB(), Votes()], ids=KINDS)
@pytest.mark.parametrize("decimals", [0, 9], ids=["ties", "no ties"])
@pytest.mark.parametrize("single_path", [True, False])
def test_one_query_is_decided_as_it_is_among_others(
    explorer: Exploration, decimals: int, single_path: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single query takes a way of its own: to the last bit the same slate, propensities and draws."""
    monkeypatch.setattr(Policy, "single_path", single_path)
    rng = np.random.default_rng(2)
    for seed in range(40):
        n = int(rng.integers(10, 70))
        scores, mask = rng.standard_normal((1 + seed % 3, n)).round(decimals), rng.random(n) < 0.8
        mask[:8] = True
        k = int(rng.integers(1, 9))
        one = Fixed(explorer, scores).decide(queries(1, mask), k, np.random.default_rng(seed))
        draws, left = np.random.default_rng(seed), mask[None].copy()
        for slot in range(k):
            p = explorer.probabilities(scores[None], left)
            [chosen] = sample(p, draws)
            assert one.positions[0, slot] == chosen
            assert one.propensities[0, slot] == p[0, chosen]
            left[0, chosen] = False
            if slot == 0:
                np.testing.assert_array_equal(one.first, p)


@pytest.mark.parametrize("samples", range(1, 301))
def test_the_last_candidates_probability_is_not_above_one(samples: int) -> None:
    """13 samples with a floor of .1 gave 1 + 2e-16, which no decision may have."""
    p = Votes(floor=0.1).probabilities(np.zeros((1, samples, 1)), np.ones((1, 1), dtype=np.bool_))
    assert p == pytest.approx(1.0)
    assert p <= 1.0


def test_the_best_share_their_part() -> None:
    p = EpsilonGreedy(epsilon=0.3).probabilities(np.array([[[2.0, 1.0, 2.0]]]), np.ones((1, 3), dtype=np.bool_))
    np.testing.assert_allclose(p, [[0.1 + 0.35, 0.1, 0.1 + 0.35]])


def test_softmax_of_large_scores_is_finite() -> None:
    scores = np.array([[[1000.0, 999.99, -1000.0]]])
    p = Softmax(temperature=0.01).probabilities(scores, np.ones((1, 3), dtype=np.bool_))
    np.testing.assert_allclose(p, [[1 / (1 + 1 / e), 1 / e / (1 + 1 / e), 0]], rtol=1e-9)


@pytest.mark.parametrize(
    ("explorer", "scores", "by_hand"),
    [
        (Softmax(temperature=0.2), POINTS, [0, 1 / (2 + 1 / e), 1 / e / (2 + 1 / e), 0, 1 / (2 + 1 / e)]),
        (SquareCB(gamma=10), POINTS, [0, 1 - 1 / 5 - 1 / 3, 1 / (3 + 10 * 0.2), 0, 1 / 3]),
        # without the first item the third, the second with the third, the fifth, fifth and fifth win
        (Votes(floor=0.3), SAMPLES, [0, 0.1 + 0.7 * 0.5 / 5, 0.1 + 0.7 * 1.5 / 5, 0, 0.1 + 0.7 * 3 / 5]),
    ],
    ids=["softmax", "squarecb", "votes"],
)
def test_second_slot_by_hand(explorer: Exploration, scores: FloatArray, by_hand: list[float]) -> None:
    slates = Fixed(explorer, scores).decide(queries(1000), 2, np.random.default_rng(2))
    after_the_first = slates.positions[:, 0] == 0
    second = slates.positions[after_the_first, 1]
    assert set(second) <= {1, 2, 4}
    np.testing.assert_allclose(slates.propensities[after_the_first, 1], np.array(by_hand)[second])


@pytest.mark.heavy
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize(("explorer", "scores"), [case[:2] for case in BY_HAND], ids=KINDS)
def test_slates_come_as_often_as_their_propensities_say(explorer: Exploration, scores: FloatArray, k: int) -> None:
    slates = Fixed(explorer, scores).decide(queries(DRAWS), k, np.random.default_rng(k))
    possible = list(permutations((0, 1, 2, 4), k))
    propensities = np.array([conditional(explorer, scores, slate) for slate in possible])  # [slates, K]
    joint = propensities.prod(axis=1)
    assert joint.sum() == pytest.approx(1.0)

    which = (slates.positions[:, None, :] == np.array(possible)).all(axis=2)  # [DRAWS, slates]
    assert which.any(axis=1).all(), "a masked item was drawn, or one twice"
    np.testing.assert_allclose(slates.propensities, propensities[which.argmax(axis=1)])
    assert (np.abs(which.mean(axis=0) - joint) <= four_errors(joint, DRAWS)).all()


def conditional(explorer: Exploration, scores: FloatArray, slate: tuple[int, ...]) -> list[float]:
    """The probability of each slot's item when the items before it are masked."""
    propensities, left = [], MASK.copy()
    for item in slate:
        propensities.append(float(explorer.probabilities(scores[None], left[None])[0, item]))
        left[item] = False
    return propensities


def test_queries_of_a_batch_are_drawn_independently() -> None:
    positions = Fixed(Uniform(), POINTS).decide(queries(DRAWS), 1, np.random.default_rng(0)).positions[:, 0]
    same = float(np.mean(positions[::2] == positions[1::2]))
    assert abs(same - 1 / 4) <= four_errors(np.array(1 / 4), DRAWS // 2)


class Extreme(np.random.Generator):
    """Draws one number only: the end of the range."""

    def __init__(self, number: float) -> None:
        super().__init__(np.random.PCG64(0))
        self._number = number

    def random(self, size: Any = None, *_: Any, **__: Any) -> Any:
        return np.full(size, self._number)


@pytest.mark.parametrize(("number", "drawn"), [(0.0, 10), (np.nextafter(1.0, 0.0), 1)])
def test_an_impossible_item_is_not_drawn_at_the_ends(number: float, drawn: int) -> None:
    p = np.array([[0.0, *[0.1] * 10, 0.0]])  # sums to 1 - 1e-16
    assert sample(p, Extreme(number)).tolist() == [drawn]


def test_scores_of_a_slate_are_the_expected_rewards_of_its_items() -> None:
    slates = Fixed(Votes(), SAMPLES).decide(queries(50), 4, np.random.default_rng(0))
    np.testing.assert_array_equal(slates.scores, SAMPLES.mean(axis=0)[slates.positions])


@pytest.mark.parametrize(
    "explorer",
    [
        Uniform(),
        EpsilonGreedy(),
        Softmax(),
        SquareCB(),
        Votes(),
    ],
    ids=KINDS,
)
def test_no_candidate_is_an_error(explorer: Exploration) -> None:
    with pytest.raises(PolicyError, match="no candidate"):
        explorer.probabilities(np.zeros((2, 1, 3)), np.array([[True, True, True], [False, False, False]]))


@pytest.mark.parametrize(
    ("explorer", "field", "value"),
    [
        (EpsilonGreedy, "epsilon", 1.1),
        (EpsilonGreedy, "epsilon", -0.1),
        (Softmax, "temperature", 0),
        (SquareCB, "gamma", 0),
        (Votes, "floor", 2),
        (Uniform, "epsilon", 0.5),
    ],
)
def test_settings_out_of_range_are_refused(explorer: type[Exploration], field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        explorer.model_validate({field: value})


@pytest.mark.parametrize("inner", [EpsilonGreedy(epsilon=0.0), SquareCB(gamma=10), Votes(floor=0.0)])
def test_a_uniform_share_on_top_of_any_explorer(inner: Exploration) -> None:
    both, alone = WithUniform(inner, 0.2), inner.probabilities(SAMPLES[None], MASK[None])[0]
    p = both.probabilities(SAMPLES[None], MASK[None])[0]
    np.testing.assert_allclose(p, 0.8 * alone + 0.2 * np.array([0.25, 0.25, 0.25, 0.0, 0.25]), atol=1e-15)
    _, _, first = both.slate(SAMPLES, MASK, 1, np.random.default_rng(0))
    assert first.tolist() == [p.tolist()]
