"""Slates by a choice model: the numbers by hand, the best slate by brute force, and the policy's conformance."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from rl.algorithms.slate_q.learner import compute_choice_value
from rl.policies.greedy import greedy
from rl.policies.slates.choice import best_slates, choice_logits, slate_values
from rl.policies.slates.config import SlateNetworkConfig, SlateTransformerConfig
from rl.policies.slates.network import Judged, SlateNetwork
from rl.policies.slates.policy import SlatePolicy
from rl.policy.errors import PolicyError
from rl.policy.explorers import EpsilonGreedy, Softmax
from rl.policy.queries import Query

LOGITS = torch.log(torch.tensor([[2.0, 0.5, 1.0, 7.0], [1.0, 1.0, 1.0, 1.0]]))
ADDED = torch.tensor([[3.0, -2.0, 1.0, 9.0], [1.0, 2.0, 3.0, 4.0]])
NOTHING = torch.tensor([10.0, -1.0])
SLATES = torch.tensor([[0, 2], [3, 1]])
N, F, A, K = 6, 4, 5, 3


def test_choices_by_hand() -> None:
    """Weights 2 and 1 beside 1 for nothing; and all alike."""
    p = torch.softmax(choice_logits(LOGITS, SLATES), dim=1)
    torch.testing.assert_close(p, torch.tensor([[1 / 4, 2 / 4, 1 / 4], [1 / 3, 1 / 3, 1 / 3]]))


def test_slate_values_by_hand() -> None:
    """10 / 4 + 2 (10 + 3) / 4 + (10 + 1) / 4, and (-1 + 3 + 1) / 3."""
    values = slate_values(NOTHING, ADDED, LOGITS, SLATES)
    torch.testing.assert_close(values, torch.tensor([11.75, 1.0]))


def test_values_of_choices_by_hand() -> None:
    judged = Judged(NOTHING, ADDED, LOGITS)
    torch.testing.assert_close(compute_choice_value(judged, SLATES, torch.tensor([1, 0])), torch.tensor([11.0, 3.0]))
    torch.testing.assert_close(compute_choice_value(judged, SLATES, torch.tensor([-1, -1])), NOTHING)


def drawn(seed: int, batch: int = 400, candidates: int = 10) -> tuple[Tensor, Tensor]:
    """Draw values and logits, some rows with all values negative, some with very unlike weights."""
    generator = torch.Generator().manual_seed(seed)
    added = 5 * torch.randn(batch, candidates, generator=generator, dtype=torch.float64)
    logits = torch.randn(batch, candidates, generator=generator, dtype=torch.float64)
    added[: batch // 4] -= 20
    logits[batch // 8 : batch // 2] *= 6
    return added, logits


@pytest.mark.parametrize("k", [1, 2, 3, 10])
def test_the_best_slate_is_brute_forces(k: int) -> None:
    added, logits = drawn(k)
    slates, scores = best_slates(added, logits, torch.ones_like(added, dtype=torch.bool), k)
    found = slate_values(torch.zeros(len(added)), added, logits, slates)
    every = torch.tensor(list(combinations(range(10), k)))
    values = [slate_values(torch.zeros(len(added)), added, logits, slate.expand(len(added), k)) for slate in every]
    torch.testing.assert_close(found, torch.stack(values).max(0).values, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(slates, scores.topk(k, dim=1).indices)  # best first
    # Σ P(i | s, A*) (a_i - λ*) = λ* - λ* (1 - P(nothing)): what is left is nothing's part of λ*
    p = torch.softmax(choice_logits(logits, slates), dim=1)
    torch.testing.assert_close(scores.gather(1, slates).sum(1), found * p[:, 0], rtol=1e-9, atol=1e-9)


def test_the_most_tempting_and_the_most_worth_are_not_the_best_slate() -> None:
    """Of two slots one stays with the dull item: the tempting one would take its clicks, the next adds too little."""
    added = torch.tensor([[10.0, 2.0, 1.0, 5.0]])
    weights = torch.tensor([[1.0, 50.0, 0.01, 0.5]])
    slates, _ = best_slates(added, weights.log(), torch.ones(1, 4, dtype=torch.bool), 2)
    assert slates.tolist() == [[0, 3]]  # (10 + 2.5) / 2.5 = 5; with the tempting one (10 + 100) / 52 = 2.1


def test_masked_candidates_are_shown_only_as_empty_slots() -> None:
    added, logits = drawn(3)
    mask = torch.rand(added.shape, generator=torch.Generator().manual_seed(0)) < 0.6
    mask[:5], mask[:5, :2] = False, True  # fewer than three candidates
    slates, scores = best_slates(added, logits, mask, 3)
    assert torch.isfinite(scores).all()
    assert not scores[~mask].any()
    for row in range(60):
        allowed = mask[row].nonzero().squeeze(1).tolist()
        assert len(set(slates[row].tolist()) & set(allowed)) == min(3, len(allowed))
        of = [torch.tensor([slate]) for slate in combinations(allowed, min(3, len(allowed)))]
        values = [slate_values(torch.zeros(1), added[row : row + 1], logits[row : row + 1], slate) for slate in of]
        shown = torch.tensor([[position for position in slates[row].tolist() if position in allowed]])
        best = slate_values(torch.zeros(1), added[row : row + 1], logits[row : row + 1], shown)
        torch.testing.assert_close(best, torch.stack(values).max(0).values)


def test_large_logits_do_not_overflow() -> None:
    logits = torch.tensor([[400.0, 399.0, -400.0]])
    slates, scores = best_slates(torch.tensor([[1.0, 3.0, 2.0]]), logits, torch.ones(1, 3, dtype=torch.bool), 1)
    assert slates.tolist() == [[1]]
    assert torch.isfinite(scores).all()


def policy(epsilon: float = 0.2, seed: int = 0, k: int = K) -> SlatePolicy:
    torch.manual_seed(seed)
    network = SlateNetwork(SlateNetworkConfig(width=8, value_scale=20.0), N, F).eval()
    return SlatePolicy(network, EpsilonGreedy(epsilon=epsilon), k)


def query(batch: int = 300) -> Query:
    """Queries without ties: candidates are unlike each other, one may be unknown."""
    rng = np.random.default_rng(1)
    mask = rng.random((batch, A)) < 0.8
    mask[:, :K] = True
    return Query(
        features=rng.standard_normal((batch, 1, F)),
        state=np.zeros(batch, dtype=np.int64),
        items=rng.permuted(np.tile(np.arange(N + 1), (batch, 1)), axis=1)[:, :A],
        mask=mask,
        history=rng.integers(1, 5, size=(batch, 4, 3)) * (rng.random((batch, 4, 1)) < 0.7),
    )


def test_distributions_sum_to_one_within_the_mask() -> None:
    p = policy().distribution(query(), np.random.default_rng(0))
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert (p[query().mask] > 0).all()
    assert not p[~query().mask].any()


@pytest.mark.parametrize("k", [1, 2, K])
def test_greedy_slates_are_the_best_of_any_length(k: int) -> None:
    exploring, asked = policy(epsilon=0.5), query()
    slates = greedy(exploring).decide(asked, k, np.random.default_rng(0))
    np.testing.assert_array_equal(slates.propensities, 1.0)
    assert exploring.explorer == EpsilonGreedy(epsilon=0.5)
    judged = judge(exploring.network, asked)
    best, _ = best_slates(judged.added, judged.logits, torch.from_numpy(asked.mask), k)
    np.testing.assert_array_equal(slates.positions, best.numpy())


def test_propensities_are_those_of_each_slot_given_those_before() -> None:
    asked = Query.of(
        {name: np.repeat(getattr(query(1), name), 40_000, axis=0) for name in ("features", "items", "mask")}
    )
    slates = policy().decide(asked, K, np.random.default_rng(0))
    for slot in range(K):
        before = (slates.positions[:, :slot] == slates.positions[0, :slot]).all(axis=1)
        same = slates.positions[before, slot] == slates.positions[0, slot]
        p = slates.propensities[0, slot]
        assert abs(same.mean() - p) <= 4 * np.sqrt(p * (1 - p) / before.sum())


def test_the_same_seed_shows_the_same_slates() -> None:
    one, other = (policy().decide(query(), K, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(one.positions, other.positions)
    np.testing.assert_array_equal(one.propensities, other.propensities)


def test_unknown_users_and_items_are_answered() -> None:
    asked = Query.of(
        {"items": np.array([[0, N + 1, N + 50]]), "mask": np.ones((1, 3)), "features": np.zeros((1, 1, F))}
    )
    slates = policy().decide(asked, 2, np.random.default_rng(0))
    assert np.isfinite(slates.scores).all()
    expected = policy().expected(asked)[0]
    assert expected[0] == expected[1] == expected[2]


def test_expected_is_the_value_of_showing_an_item_alone() -> None:
    known, asked = policy(), query()
    judged = judge(known.network, asked)
    expected = torch.from_numpy(known.expected(asked)).float()
    for position in range(A):
        alone = torch.full((len(asked), 1), position)
        values = slate_values(judged.nothing, judged.added, judged.logits, alone)
        torch.testing.assert_close(expected[:, position], values, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(known.score(asked, np.random.default_rng(0))[1], known.expected(asked))


def test_a_saved_policy_comes_back() -> None:
    saved, other = policy(seed=0), policy(seed=1)
    assert not np.array_equal(saved.expected(query()), other.expected(query()))
    other.load_state_dict(saved.state_dict())
    np.testing.assert_array_equal(saved.expected(query()), other.expected(query()))
    with pytest.raises(PolicyError, match="has no array"):
        other.load_state_dict({})


def test_wrong_queries_are_refused() -> None:
    asked = Query.of({"items": np.ones((1, 4), dtype=np.int64), "mask": np.ones((1, 4))})
    with pytest.raises(PolicyError, match=f"0 features, this network was trained with {F}"):
        policy().decide(asked, 2, np.random.default_rng(0))
    with pytest.raises(PolicyError, match="k must be between 1 and"):
        policy().decide(query(), A + 1, np.random.default_rng(0))


def test_configurations_come_back_from_json() -> None:
    config = SlateTransformerConfig(network=SlateNetworkConfig(value_scale=3.0), slate=4, explorer=Softmax())
    assert SlateTransformerConfig.model_validate_json(config.model_dump_json()) == config


def judge(network: SlateNetwork, asked: Query) -> Judged:
    history = asked.history if asked.history is not None else np.zeros((len(asked), 1, 3), dtype=np.int64)
    features = torch.from_numpy(asked.features.astype(np.float32))
    with torch.no_grad():
        return network.judge(torch.from_numpy(asked.items), torch.from_numpy(history), features)
