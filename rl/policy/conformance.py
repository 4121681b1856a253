"""What every policy promises, as a check that anyone calls on their own: `check_policy`.

    from rl.policy.conformance import check_policy
    from rl.policy.samples import make_samples

    rng = np.random.default_rng(0)
    check_policy(lambda: MyPolicy(n_features=4), make_samples(rng, n_features=4, n_items=6), rng)

Axis names as in `rl.policy.queries`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from data.errors import RecommenderError
from rl.policy.arrays import LARGEST, FloatArray, IntArray
from rl.policy.errors import PolicyError
from rl.policy.explanation.conformance import find_fault
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query, Slates
from rl.policy.samples import Samples

_ROUNDING = 1e-9  # of sums of probabilities, and of what was learned in another grouping; of the largest value
_REPEATS = 1_000  # times that a query is decided to count what was chosen
_DEVIATIONS = 6.0  # standard errors that a count may be off: none is by chance
_SCALES = (1e-12, 1e-3, 1e3, 1e9, LARGEST)


class ConformanceError(RecommenderError):
    """A policy breaks a promise; says which, and by how much."""

    def __init__(self, promise: str, fault: str) -> None:
        super().__init__(f"{promise}: {fault}")
        self.promise = promise


class _BrokenError(Exception):
    """What was found where something else was promised."""


@dataclass(frozen=True)
class _Case:
    make: Callable[[], Policy]
    samples: Samples
    seed: int
    k: int

    @property
    def query(self) -> Query:
        return self.samples.query

    def rng(self) -> np.random.Generator:
        """Return the same generator every time."""
        return np.random.default_rng(self.seed)

    def trained(self, impressions: Impressions | None = None) -> Policy:
        policy = self.make()
        policy.update(self.samples.impressions if impressions is None else impressions)
        return policy


def check_policy(
    make: Callable[[], Policy],
    samples: Samples,
    rng: np.random.Generator,
    k: int = 3,
    promises: Collection[str] | None = None,
) -> None:
    """Check that a policy keeps every promise of `PROMISES`.

    Args:
        make: makes the untrained policy, the same one each time.
        samples: what it is asked and taught; see `rl.policy.samples`.
        rng: what is drawn in the checks follows from it.
        k: slots of the slates that are asked for, at most 3; where scores are for slates of one length, that.
        promises: names of `PROMISES`; default: all.

    Raises:
        ConformanceError: it breaks one: the first, in the order of `PROMISES`.
    """
    case = _Case(make, samples, int(rng.integers(2**32)), k)
    for promise, check in PROMISES.items():
        if promises is not None and promise not in promises:
            continue
        try:
            check(case)
        except _BrokenError as broken:
            raise ConformanceError(promise, str(broken)) from None
        except Exception as error:  # whatever it is, the promise was not kept
            raise ConformanceError(promise, f"{type(error).__name__}: {error}") from error


def _distribution(case: _Case) -> None:
    """The distribution of each query sums to one, over the candidates alone, before anything was learned and after."""
    for policy in (case.make(), case.trained()):
        p = policy.distribution(case.query, case.rng())
        if p.shape != case.query.mask.shape:
            raise _BrokenError(f"probabilities have shape {p.shape}, the mask has {case.query.mask.shape}")
        if not np.isfinite(p).all() or p.min() < 0:
            raise _BrokenError(f"a probability is {p.min() if np.isfinite(p).all() else 'not finite'}")
        _alike("the probabilities of a query sum to", p.sum(axis=1), np.ones(len(p)))


def _mask(case: _Case) -> None:
    """What the mask leaves out is never shown, nothing is shown twice, and a slate that cannot be filled is refused."""
    policy, query = case.trained(), case.query
    p = policy.distribution(query, case.rng())
    if (left_out := float(p[~query.mask].max(initial=0.0))) > 0:
        raise _BrokenError(f"a candidate that is masked out has probability {left_out}")
    for row in (slice(None), slice(0, 1)):
        some = query.rows(row)
        slates = policy.decide(some, case.k, case.rng())
        if slates.positions.shape != (len(some), case.k):
            raise _BrokenError(
                f"{case.k} slots were asked for {len(some)} queries, positions have shape {slates.positions.shape}"
            )
        if not np.take_along_axis(some.mask, slates.positions, axis=1).all():
            raise _BrokenError("a slate has a candidate that is masked out")
        if any(len(set(slate)) < case.k for slate in slates.positions.tolist()):
            raise _BrokenError("a slate has a candidate twice")
    for k in (0, int(query.mask.sum(axis=1).min()) + 1):
        try:
            policy.decide(query, k, case.rng())
        except PolicyError:
            continue
        raise _BrokenError(f"a slate of {k} among {int(query.mask.sum(axis=1).min())} candidates was not refused")


def _propensities(case: _Case) -> None:
    """A slot's propensity is the probability that it was drawn with, after the slots before it.

    Seen twice: in the explorer's distributions for the same scores, slot by slot, and in how often a query that is
    decided many times is answered with each candidate.
    """
    policy, query = case.trained(), case.query
    repeated = query.rows(np.zeros(_REPEATS, dtype=np.int64))
    singles = [query.rows(slice(row, row + 1)) for row in range(min(3, len(query)))]
    for some in (query, *singles, repeated):
        slates, rng = policy.decide(some, case.k, case.rng()), case.rng()
        scores, expected = policy.score(some, rng)
        left, each = some.mask.copy(), np.arange(len(some))
        for slot in range(case.k):
            chosen = slates.positions[:, slot]
            p = policy.explorer.probabilities(scores, left)
            _alike(f"slot {slot} was logged with", slates.propensities[:, slot], p[each, chosen])
            if some is repeated:
                _count(chosen, p, slot)
            left[each, chosen] = False
        _alike("a slot's score is", slates.scores, np.take_along_axis(expected, slates.positions, axis=1))


def _count(chosen: IntArray, p: FloatArray, slot: int) -> None:
    """Compare how often each candidate was chosen [B] with its probabilities [B, A]."""
    counts, wanted = np.bincount(chosen, minlength=p.shape[1]), p.sum(axis=0)
    off = np.abs(counts - wanted) / (np.sqrt((p * (1 - p)).sum(axis=0).clip(min=0)) + 1.0)
    if off.max() > _DEVIATIONS:
        worst = int(off.argmax())
        raise _BrokenError(
            f"candidate {worst} was chosen for slot {slot} {counts[worst]} times of {len(p)}, where its probabilities "
            f"sum to {wanted[worst]:.6g}: {off[worst]:.1f} standard errors off"
        )


def _determinism(case: _Case) -> None:
    """The same impressions give the same policy, and the same seed the same slates, to the last bit."""
    one, other = case.trained(), case.trained()
    _same_bits(one.state_dict(), other.state_dict(), "a policy that was taught the same has")
    for policy in (one, other):
        _same_slates(
            one.decide(case.query, case.k, case.rng()), policy.decide(case.query, case.k, case.rng()), "decided again"
        )


def _order(case: _Case) -> None:
    """Impressions may come in one call or in many, and in any order, with answers in between."""
    impressions = case.samples.impressions
    whole = case.trained().expected(case.query)
    parts = case.make()
    for start in range(len(impressions)):
        parts.update(impressions.rows(slice(start, start + 1)))
        if start % 10 == 0:
            parts.expected(case.query)
    _alike("learned one by one, the expected reward is", parts.expected(case.query), whole)
    shuffled = case.trained(impressions.rows(case.rng().permutation(len(impressions))))
    _alike("learned in another order, the expected reward is", shuffled.expected(case.query), whole)


def _correction(case: _Case) -> None:
    """A correction leaves what the final reward alone would have left."""
    final = case.samples.impressions
    changed = final.rewards == final.rewards.max()
    first = np.where(changed, final.rewards.min(), final.rewards)
    policy = case.trained(replace(final, rewards=first, squares=first**2))
    difference = replace(
        final, rewards=final.rewards - first, counts=np.zeros(len(final)), squares=final.rewards**2 - first**2
    )
    policy.update(difference.rows(changed))
    _alike(
        "after a correction, the expected reward is", policy.expected(case.query), case.trained().expected(case.query)
    )


def _storage(case: _Case) -> None:
    """What is saved and loaded decides and learns as before, to the last bit, and does not change by itself."""
    policy, loaded = case.trained(), case.make()
    loaded.decide(case.query, case.k, case.rng())  # what was derived from another state is forgotten
    saved = policy.state_dict()
    copies = {name: array.copy() for name, array in saved.items()}
    loaded.load_state_dict(saved)
    for step in ("loaded", "loaded and taught more"):
        _same_bits(policy.state_dict(), loaded.state_dict(), f"{step}, it has")
        before, after = (p.decide(case.query, case.k, case.rng()) for p in (policy, loaded))
        _same_slates(before, after, step)
        for learner in (policy, loaded):
            learner.update(case.samples.impressions)
    _same_bits(copies, saved, "after more was learned, what was saved before has")


def _unknown(case: _Case) -> None:
    """A user of whom nothing is known, offered items that nobody knows, is answered with finite scores."""
    query = case.query
    strange = replace(
        query.rows(slice(0, 2)),
        features=np.zeros_like(query.features[:2]),
        state=np.zeros_like(query.state[:2]),
        items=np.zeros_like(query.items[:2]),
        history=None,
        sparse=None if query.sparse is None else query.sparse.rows(slice(0, 2)).rename(),
    )
    for policy in (case.make(), case.trained()):
        slates = policy.decide(strange, case.k, case.rng())
        if not np.isfinite(slates.scores).all():
            raise _BrokenError(f"the scores of unknown items are {slates.scores}")


def _scale(case: _Case) -> None:
    """Rewards of any size leave finite scores and probabilities."""
    impressions = case.samples.impressions
    unit = np.abs(impressions.rewards).max()
    for scale in _SCALES:
        rewards = impressions.rewards / unit * scale
        policy = case.trained(replace(impressions, rewards=rewards, squares=rewards**2))
        expected, p = policy.expected(case.query), policy.distribution(case.query, case.rng())
        if not np.isfinite(expected).all():
            raise _BrokenError(f"with rewards up to {scale:g} an expected reward is not finite")
        if not (np.isfinite(p).all() and np.abs(p.sum(axis=1) - 1).max() < _ROUNDING):
            raise _BrokenError(f"with rewards up to {scale:g} probabilities sum to {p.sum(axis=1).min():.12g}")


def _explanation(case: _Case) -> None:
    """Explanations are of what is expected, and add up where they claim to be exact; see `find_fault`."""
    for policy in (case.make(), case.trained()):
        if fault := find_fault(policy, case.query):
            raise _BrokenError(fault)


Check: TypeAlias = Callable[[_Case], None]
PROMISES: Mapping[str, Check] = {
    "the distribution sums to one": _distribution,
    "the mask is kept": _mask,
    "propensities are exact": _propensities,
    "the same seed gives the same": _determinism,
    "the order of updates does not count": _order,
    "a correction is as the final reward": _correction,
    "a saved policy is the same": _storage,
    "unknown users and items are answered": _unknown,
    "any scale of rewards is finite": _scale,
    "an explanation adds up": _explanation,
}
"""What is checked, by what a broken one is called."""


def _alike(what: str, found: FloatArray, wanted: FloatArray) -> None:
    """Compare numbers up to rounding."""
    tolerance = _ROUNDING * max(1.0, float(np.abs(wanted).max(initial=0.0)))
    if (off := np.abs(found - wanted)).size and not off.max() <= tolerance:  # which NaN is not either
        worst = np.unravel_index(int(np.nan_to_num(off, nan=np.inf).argmax()), off.shape)
        raise _BrokenError(f"{what} {found[worst]:.12g}, not {wanted[worst]:.12g}")


def _same_bits(one: Mapping[str, ArrayLike], other: Mapping[str, ArrayLike], what: str) -> None:
    if one.keys() != other.keys():
        raise _BrokenError(f"{what} arrays {sorted(other)}, not {sorted(one)}")
    for name, array in one.items():
        if not np.array_equal(np.asarray(array), np.asarray(other[name])):
            raise _BrokenError(f"{what} another array {name!r}")


def _same_slates(one: Slates, other: Slates, what: str) -> None:
    for name in ("positions", "propensities", "scores"):
        a, b = getattr(one, name), getattr(other, name)
        if not np.array_equal(a, b):
            row = int(np.flatnonzero((a != b).any(axis=1))[0])
            raise _BrokenError(f"{what}, query {row} has {name} {b[row]}, not {a[row]}")
