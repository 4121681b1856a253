"""Whether a challenger keeps what policies promise, and answers as fast as the champion: before it answers anybody."""

import gc
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from time import process_time_ns

import numpy as np
from pydantic import BaseModel, ConfigDict

from data.schema import Decision, Features
from rl.artefacts.artefact import Artefact
from rl.encoders.visit import Visit
from rl.gate.logged import to_visit
from rl.policies.slates.config import SlateTransformerConfig
from rl.policy.conformance import ConformanceError, check_policy
from rl.policy.queries import Impressions, Query, Slates
from rl.policy.samples import Samples

PROMISES = (
    "the distribution sums to one",
    "the mask is kept",
    "propensities are exact",
    "the same seed gives the same",
    "a saved policy is the same",
    "unknown users and items are answered",
)
"""Those of `rl.policy.conformance` that the gate asks of what was trained. The others are of the code alone."""
_CANDIDATES = 50
_QUERIES, _IMPRESSIONS = 8, 60
_TIMED, _TRIES = 1_000, 3


class Conformance(BaseModel):
    """What was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    promises: dict[str, str | None]
    """What is wrong, by promise; None: it is kept."""
    p99_s: tuple[float, float]
    """Seconds of the processor for a decision of challenger and champion, the 99th percentile."""

    @property
    def slowdown(self) -> float:
        """How much longer the challenger takes."""
        return self.p99_s[0] / self.p99_s[1]

    def faults(self, slowdown: float, slack_s: float) -> list[str]:
        """Return what speaks against the challenger.

        Args:
            slowdown: how much longer it may take.
            slack_s: seconds that it may take longer in any case. What is timed is the policy's own part; of a request,
                which HTTP and the log's commit make one of milliseconds, tens of microseconds are no share to see.
        """
        faults = [f"it breaks the promise that {name}: {fault}" for name, fault in self.promises.items() if fault]
        if self.slowdown > slowdown and self.p99_s[0] - self.p99_s[1] > slack_s:
            one, other = (f"{1e3 * seconds:.3f}" for seconds in self.p99_s)
            faults.append(
                f"the p99 of a decision is {one} ms, {self.slowdown:.2f} of the champion's {other} ms, and may be "
                f"{slowdown:g}"
            )
        return faults


def check_conformance(challenger: Artefact, champion: Artefact, decisions: Sequence[Decision]) -> Conformance:
    """Try a challenger with what was asked lately.

    Args:
        challenger: who is tried.
        champion: whose time a decision may take.
        decisions: that were logged.
    """
    return Conformance(
        promises=check_promises(challenger, decisions), p99_s=time_decisions(challenger, champion, decisions)
    )


def check_promises(artefact: Artefact, decisions: Sequence[Decision]) -> dict[str, str | None]:
    """Return what is wrong with each promise; None: it is kept."""
    found = dict[str, str | None]()
    try:
        samples, k = _samples(artefact, decisions)
    except Exception as error:  # whatever it is: it cannot be asked what was asked lately
        return dict.fromkeys(PROMISES, f"it cannot be tried: {type(error).__name__}: {error}")
    for promise in PROMISES:
        found[promise] = None
        try:
            check_policy(lambda: deepcopy(artefact.policy), samples, np.random.default_rng(0), k, (promise,))
        except ConformanceError as error:
            found[promise] = str(error).removeprefix(f"{promise}: ")
    return found


def time_decisions(
    challenger: Artefact, champion: Artefact, decisions: Sequence[Decision], clock: Callable[[], int] = process_time_ns
) -> tuple[float, float]:
    """Return the p99 of a decision of challenger and champion, in seconds.

    Of the processor's time: where others use it too, the slowest of a hundred decisions are those that were put aside,
    whoever made them. They take turns; of three tries the one in which the challenger does best beside the champion
    counts.
    """
    tries = [_time(challenger, champion, decisions, clock) for _ in range(_TRIES)]
    return min(tries, key=lambda one: one[0] / one[1])


def _time(
    challenger: Artefact, champion: Artefact, decisions: Sequence[Decision], clock: Callable[[], int]
) -> tuple[float, float]:
    taken, rng, collecting = np.empty((_TIMED, 2)), np.random.default_rng(0), gc.isenabled()
    gc.disable()
    try:
        for at in range(-_TIMED // 10, _TIMED):  # the first ones only warm up
            decision = decisions[at % len(decisions)]
            for who, artefact in enumerate((challenger, champion)):
                visit = to_visit(decision, artefact, None)
                k = min(len(decision.slate), len(decision.candidates))
                before = clock()
                artefact.policy.decide(artefact.encoder.query([visit]), k, rng)
                if at >= 0:
                    taken[at, who] = (clock() - before) / 1e9
    finally:
        if collecting:
            gc.enable()
    one, other = np.quantile(taken, 0.99, axis=0)
    return float(one), float(other)


def _samples(artefact: Artefact, decisions: Sequence[Decision]) -> tuple[Samples, int]:
    """Return questions and lessons as they were lately, and how many slots to ask for."""
    sizes = [min(len(decision.candidates), _CANDIDATES) for decision in decisions]
    size = max(set(sizes), key=lambda of: (of >= 3, sizes.count(of)))  # as many in every query
    visits = [_with_few(to_visit(one, artefact, None), size) for one in decisions if len(one.candidates) >= size]
    rng = np.random.default_rng(0)
    taught = [visits[at] for at in rng.integers(len(visits), size=_IMPRESSIONS)]
    shown = Slates(*_shown(rng, size))
    rewards = rng.choice([0.0, 1.0, 5.0], (_IMPRESSIONS, 1))
    impressions = Impressions.of_slates(artefact.encoder.query(taught), shown, rewards)
    query: Query = artefact.encoder.query([visits[at % len(visits)] for at in range(_QUERIES)])
    config = artefact.config
    k = config.slate if isinstance(config, SlateTransformerConfig) else 3
    return Samples(query, impressions), min(k, size)


def _shown(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    positions = rng.integers(size, size=(_IMPRESSIONS, 1))
    return positions, np.ones(positions.shape), np.zeros(positions.shape)


def _with_few(visit: Visit, size: int) -> Visit:
    """Return a visit with its first candidates only."""
    features: Features | None = visit.features
    if features and features.items:
        features = features.model_copy(update={"items": features.items[:size]})
    return replace(visit, candidates=visit.candidates[:size], features=features)
