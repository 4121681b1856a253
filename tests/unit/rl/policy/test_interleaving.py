"""Team drafts against what is counted out: every coin and every draw of small slates, with and without rules."""

from collections.abc import Iterator
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare

from data.schema import Rules
from rl.policy.arrays import FloatArray
from rl.policy.explorers import EpsilonGreedy, Softmax, Votes
from rl.policy.interface import Constraint, Explorer, Policy
from rl.policy.interleaving import draft
from rl.policy.queries import Impressions, Query
from rl.policy.rules import rules_constraint

ITEMS = "abcd"
RULES = {
    "none": Rules(),
    "pin": Rules(pins={"b": 1}),
    "boost": Rules(boosts={"a": 0.5}),
    "cap": Rules(caps={"red": 1}, categories={"a": ("red",), "c": ("red",)}),
}
EXPLORERS: dict[str, tuple[Explorer, Explorer]] = {
    "softmax": (Softmax(temperature=0.5), Softmax(temperature=1.0)),
    "mixed": (EpsilonGreedy(epsilon=0.3), Softmax(temperature=0.7)),
    "samples": (Votes(floor=0.1), EpsilonGreedy(epsilon=0.5)),
}
DRAWS = 3_000


class Sampled(Policy):
    """Has samples [S, A] of what it thinks, always the same."""

    learns = False

    def __init__(self, samples: FloatArray, explorer: Explorer) -> None:
        self._samples, self.explorer = samples, explorer

    def expected(self, query: Query) -> FloatArray:
        mean: FloatArray = self._samples.mean(axis=0)[None]
        return mean

    def scores(self, query: Query, rng: np.random.Generator) -> FloatArray:
        return self._samples[None]

    def update(self, impressions: Impressions) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        return {}

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        raise NotImplementedError


def query() -> Query:
    one = np.ones((1, len(ITEMS)), dtype=np.bool_)
    return Query(
        features=np.zeros((1, len(ITEMS), 1)),
        state=np.zeros(1, dtype=np.int64),
        items=np.arange(len(ITEMS))[None],
        mask=one,
    )


def pair(explorers: str) -> list[Policy]:
    rng = np.random.default_rng(7)
    return [Sampled(rng.standard_normal((3, len(ITEMS))), explorer) for explorer in EXPLORERS[explorers]]


def enumerate_slates(
    policies: list[Policy], k: int, constraint: Constraint | None
) -> dict[tuple[int, ...], tuple[float, NDArray[np.float64]]]:
    """Return the probability of every slate, and how many slots each team is expected to have of it, times that."""
    slates: dict[tuple[int, ...], tuple[float, NDArray[np.float64]]] = {}
    scores = [policy.scores(query(), np.random.default_rng(0)) for policy in policies]
    if constraint is not None and constraint.bias is not None:
        scores = [one + constraint.bias[:, None, :] for one in scores]

    def go(chosen: tuple[int, ...], teams: tuple[int, ...], p: float) -> Iterator[tuple[tuple[int, ...], float]]:
        left = np.ones((1, len(ITEMS)), dtype=np.bool_)
        left[0, list(chosen)] = False
        so_far = np.array([chosen], dtype=np.int64).reshape(1, -1)
        allowed = left if constraint is None else constraint.allowed(left, len(chosen), so_far)
        if len(chosen) == k or not allowed.any():
            had, of_teams = slates.get(chosen, (0.0, np.zeros(2)))
            slates[chosen] = had + p, of_teams + p * np.bincount(teams, minlength=2)
            return
        turns = {0: 0.5, 1: 0.5} if len(chosen) % 2 == 0 else {1 - teams[-1]: 1.0}
        for team, chance in turns.items():
            distribution = policies[team].explorer.probabilities(scores[team], allowed)[0]
            for item in np.flatnonzero(distribution):
                yield from go((*chosen, int(item)), (*teams, team), p * chance * float(distribution[item]))

    list(go((), (), 1.0))
    return slates


@pytest.mark.parametrize("explorers", EXPLORERS)
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_propensity_of_each_slot_is_what_all_coins_and_draws_come_to(explorers: str, rules: str, k: int) -> None:
    policies, constraint = pair(explorers), rules_constraint(ITEMS, RULES[rules])
    slates = enumerate_slates(policies, k, constraint)
    assert sum(p for p, _ in slates.values()) == pytest.approx(1.0)
    prefixes: dict[tuple[int, ...], float] = {}
    for slate, (p, _) in slates.items():
        for end in range(len(slate) + 1):
            prefixes[slate[:end]] = prefixes.get(slate[:end], 0.0) + p
    seen = set()
    for seed in range(12):
        found = draft(policies, [query(), query()], k, np.random.default_rng(seed), constraint)
        slate = tuple(found.slates.positions[0].tolist())
        seen.add(slate)
        expected = [prefixes[slate[: slot + 1]] / prefixes[slate[:slot]] for slot in range(len(slate))]
        assert found.slates.propensities[0].tolist() == pytest.approx(expected, rel=1e-12)
        assert np.prod(found.slates.propensities) == pytest.approx(slates[slate][0])
        assert found.slates.first is not None
        assert [found.slates.first[0, item] for item in range(4)] == pytest.approx(
            [prefixes.get((item,), 0.0) for item in range(4)]
        )
        assert all({*found.teams[at : at + 2]} == {0, 1} for at in range(0, len(slate) - 1, 2))
    assert len(seen) > 1


@pytest.mark.heavy
@pytest.mark.parametrize("explorers", ["mixed"])
def test_slates_come_as_often_as_their_probabilities_say_and_so_do_the_teams(explorers: str) -> None:
    # Chi-square of 24 slates and of the teams' slots; p above 1e-4 with these seeds, and 0 if the coin is unfair.
    policies, rng = pair(explorers), np.random.default_rng(3)
    slates = enumerate_slates(policies, 3, None)
    counts: dict[tuple[int, ...], int] = {slate: 0 for slate in permutations(range(4), 3)}
    of_teams = np.zeros(2)
    for _ in range(DRAWS):
        found = draft(policies, [query(), query()], 3, rng)
        slate = tuple(found.slates.positions[0].tolist())
        counts[slate] += 1
        of_teams += np.bincount(found.teams, minlength=2)
    likely = {slate: p for slate, (p, _) in slates.items() if p > 1e-3}
    n = sum([counts[slate] for slate in likely])
    expected = np.array(list(likely.values()))
    assert chisquare([counts[slate] for slate in likely], n * expected / expected.sum()).pvalue > 1e-4
    wanted = np.sum([of for _, of in slates.values()], axis=0) * DRAWS
    assert np.abs(of_teams - wanted).max() < 5 * np.sqrt(DRAWS)


def test_two_that_think_the_same_are_credited_the_same() -> None:
    policies = [pair("softmax")[0]] * 2
    for slate, (p, of_teams) in enumerate_slates(policies, 4, None).items():
        assert of_teams == pytest.approx([2 * p, 2 * p]), slate


def test_what_is_no_pair_of_one_visit_is_refused() -> None:
    with pytest.raises(ValueError, match="expected two policies"):
        draft(pair("softmax")[:1], [query()], 1, np.random.default_rng(0))
