"""What users do with what they are shown, fitted to a log: a simulator of any shop that has logged enough.

Users are of classes, which nobody sees. With a user of class m item n earns something with probability p[m, n],
whatever else is shown: so what a user did before says of which class they are, and what they will do next. It is a
model of the log's own users and items, not a truth about them: `rl.evaluation.sim_to_real` says how far to believe it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rl.policy.arrays import BoolArray, FloatArray, IntArray

_ROUNDS = 60
_CLASSES = (1, 2, 4, 8, 16)
_PRIOR = 4.0
"""Slots that the item's mean over all users counts for in a class, and the mean over all items in an item's."""
_FEW = 20
"""Users without whom there are no classes."""
_MOST = 400_000
"""Slots that are fitted on, the last."""


@dataclass(frozen=True)
class Slots:
    """Slots that were shown, n of them, in the order of time."""

    users: IntArray
    """[n] numbers of the users, from 0."""
    steps: IntArray
    """[n] which decision of their user they are of, from 0."""
    items: IntArray
    """[n] positions in the catalogue, from 1; 0: not in it."""
    rewards: FloatArray
    """[n] what they have earned."""
    weights: FloatArray
    """[n] how much they count."""

    def __len__(self) -> int:
        return len(self.users)

    @property
    def earned(self) -> BoolArray:
        """Which [n] have earned something."""
        found: BoolArray = self.rewards > 0.0
        return found

    def take(self, rows: BoolArray | slice) -> "Slots":
        """Return some of them."""
        return Slots(self.users[rows], self.steps[rows], self.items[rows], self.rewards[rows], self.weights[rows])


@dataclass(frozen=True)
class ResponseModel:
    """What was fitted: M classes of users, N items."""

    shares: FloatArray
    """[M] of the users, summing to 1."""
    p: FloatArray
    """[M, N + 1] probability that an item earns something; 0 is any that is not in the catalogue."""
    worth: FloatArray
    """[N + 1] what it earns then."""
    otherwise: float
    """What a slot earns else."""

    def rewards(self, p: FloatArray, items: IntArray) -> FloatArray:
        """Return what items [n] earn in the mean, given the probabilities [n] that they earn something."""
        earned: FloatArray = p * self.worth[items] + (1.0 - p) * self.otherwise
        return earned

    def follow(self, slots: Slots, prior: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Predict slot after slot, each from what its user did in earlier decisions.

        Args:
            slots: what was shown, and earned.
            prior: [users, M] what was known of the users' classes before.

        Returns:
            [n] the probability that each earns something; [users, M] what is known of the users after.
        """
        known, predicted = np.log(np.maximum(prior, 1e-300)), np.empty(len(slots))
        likelihoods = self._likelihoods(slots)
        order = np.argsort(slots.steps, kind="stable")
        edges = np.flatnonzero(np.diff(slots.steps[order], prepend=-1, append=-1))
        for first, last in pairwise(edges.tolist()):
            rows = order[first:last]
            of = _normalise(known[slots.users[rows]])
            predicted[rows] = (of * self.p[:, slots.items[rows]].T).sum(axis=1)
            np.add.at(known, slots.users[rows], likelihoods[rows])
        return predicted, _normalise(known)

    def _likelihoods(self, slots: Slots) -> FloatArray:
        """Return the logarithm of the probability of what each slot earned, if its user were of a class, [n, M]."""
        p = self.p[:, slots.items].T
        found: FloatArray = np.log(np.where(slots.earned[:, None], p, 1.0 - p))
        return found


def fit_responses(
    slots: Slots, n_users: int, n_items: int, rng: np.random.Generator, classes: Sequence[int] = _CLASSES
) -> tuple[ResponseModel, FloatArray]:
    """Fit to what was shown and earned, with as many classes as predict users best who were not fitted on.

    Args:
        slots: one at least.
        n_users: numbers of users are below this.
        n_items: N.
        rng: of who is left out, and of where fits begin.
        classes: numbers of classes to choose from.

    Returns:
        The model, and what is known of the users' classes, [n_users, M].

    Source: Dempster, Laird and Rubin, "Maximum likelihood from incomplete data via the EM algorithm" (1977).
    """
    slots = slots.take(slice(max(0, len(slots) - _MOST), None))
    judging = rng.random(n_users) < 0.2
    left_out = judging[slots.users]
    best = 1
    if n_users >= _FEW and 0 < left_out.sum() < len(slots):
        judged, losses = slots.take(left_out), list[FloatArray]()
        for m in classes:
            losses.append(_losses(_fit(slots.take(~left_out), n_users, n_items, m, rng), judged, n_users))
        best = classes[_fewest(losses)]
    model = _fit(slots, n_users, n_items, best, rng)
    return model, model.follow(slots, np.tile(model.shares, (n_users, 1)))[1]


def _fit(slots: Slots, n_users: int, n_items: int, m: int, rng: np.random.Generator) -> ResponseModel:
    """Fit so many classes by expectation and maximisation, from a random beginning."""
    size, earned, weights = n_items + 1, slots.earned, slots.weights
    mean = float((weights @ earned + 0.5) / (weights.sum() + 1.0))
    of_item = _count(slots.items, weights * earned, size), _count(slots.items, weights, size)
    base = (of_item[0] + _PRIOR * mean) / (of_item[1] + _PRIOR)  # [N + 1]
    of_user = rng.dirichlet(np.ones(m), n_users)  # [U, M]
    for _ in range(_ROUNDS if m > 1 else 1):
        parts = weights[:, None] * of_user[slots.users]  # [n, M]
        shown = np.stack([_count(slots.items, parts[:, k], size) for k in range(m)])
        won = np.stack([_count(slots.items, parts[:, k] * earned, size) for k in range(m)])
        p = np.clip((won + _PRIOR * base) / (shown + _PRIOR), 1e-6, 1.0 - 1e-6)
        seen = np.bincount(slots.users, minlength=n_users) > 0
        shares = (of_user[seen].sum(axis=0) + 1.0) / (seen.sum() + m)
        model = ResponseModel(shares, p, np.zeros(size), 0.0)
        likelihoods = model._likelihoods(slots)
        sums = np.stack([_count(slots.users, likelihoods[:, k], n_users) for k in range(m)], axis=1)
        of_user = _normalise(np.log(shares) + sums)
    worth, otherwise = _worth(slots, size)
    return ResponseModel(shares, p, worth, otherwise)


def _worth(slots: Slots, size: int) -> tuple[FloatArray, float]:
    """Return what each item earns where it earns something, and what a slot earns else."""
    earned = slots.earned
    counts, sums = (
        _count(slots.items[earned], of, size) for of in (slots.weights[earned], (slots.weights * slots.rewards)[earned])
    )
    mean = float(sums.sum() / counts.sum()) if counts.sum() else 0.0
    worth: FloatArray = (sums + _PRIOR * mean) / (counts + _PRIOR)
    nothing = slots.weights[~earned]
    otherwise = float(nothing @ slots.rewards[~earned] / nothing.sum()) if nothing.sum() else 0.0
    return worth, otherwise


def _losses(model: ResponseModel, slots: Slots, n_users: int) -> FloatArray:
    """Return how surprising what each user did was, each decision given those before, [users that are in slots]."""
    predicted, _ = model.follow(slots, np.tile(model.shares, (n_users, 1)))
    chances = slots.weights * -np.log(np.where(slots.earned, predicted, 1.0 - predicted))
    return _count(slots.users, chances, n_users)[np.unique(slots.users)]


def _fewest(losses: Sequence[FloatArray]) -> int:
    """Return the first of several fits that the best one is not clearly better than: by two standard errors.

    Source: Breiman et al., "Classification and regression trees" (1984), section 3.4.3, where it is one.
    """
    best = min(losses, key=lambda of: float(of.sum()))
    for at, of in enumerate(losses):
        worse = of - best
        if worse.sum() <= 2.0 * np.sqrt(len(worse)) * worse.std():
            return at
    return len(losses) - 1


def _count(of: IntArray, weights: FloatArray, size: int) -> FloatArray:
    counts: FloatArray = np.bincount(of, weights, minlength=size).astype(np.float64)
    return counts


def _normalise(logarithms: FloatArray) -> FloatArray:
    """Return probabilities [n, M] of logarithms of what they are in proportion to."""
    shifted = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
    normalised: FloatArray = shifted / shifted.sum(axis=1, keepdims=True)
    return normalised
