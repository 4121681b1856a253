"""Conformance before promotion: what is broken is named, and who is slow is."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from data.schema import Decision, Features
from rl.artefacts.artefact import Artefact
from rl.gate.conformance import PROMISES, Conformance, check_promises, time_decisions
from rl.policies.baselines import Random
from rl.policy.arrays import BoolArray, FloatArray
from rl.policy.conformance import PROMISES as ALL
from rl.policy.explorers import Uniform
from tests.support.gates import DRINKS, by_chance, learner

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture
def decisions() -> list[Decision]:
    return [
        Decision(
            decision_id=f"d{number}",
            time=NOW,
            candidates=DRINKS,
            slate=DRINKS[:1],
            propensities=(0.25,),
            scores=(0.0,),
            policy="champion",
            policy_version="0.0.0",
            features=Features(
                context=({"page": f"page{number % 4}"},), items=tuple(({"drink": one},) for one in DRINKS)
            ),
        )
        for number in range(20)
    ]


class Sloppy(Uniform):
    """Sums to less than one."""

    def probabilities(self, scores: FloatArray, mask: BoolArray) -> FloatArray:
        """See `rl.policy.interface.Explorer`."""
        probabilities: FloatArray = 0.9 * super().probabilities(scores, mask)
        return probabilities


@pytest.mark.heavy
def test_policies_of_ours_keep_their_promises(tmp_path: Path, decisions: list[Decision]) -> None:
    assert {*PROMISES} < {*ALL}
    for artefact in (by_chance(tmp_path), learner(tmp_path)):
        assert check_promises(artefact, decisions) == dict.fromkeys(PROMISES)


def test_a_promise_that_is_broken_speaks_against_it(tmp_path: Path, decisions: list[Decision]) -> None:
    policy = Random()
    policy.explorer = Sloppy()
    found = check_promises(replace(by_chance(tmp_path), policy=policy), decisions)
    assert found["the distribution sums to one"] is not None
    faults = Conformance(promises=found, p99_s=(1.0, 1.0)).faults(1.2, 0.0)
    assert faults[0].startswith("it breaks the promise that the distribution sums to one: the probabilities of a query")


def test_who_takes_longer_than_may_be_is_named(tmp_path: Path, decisions: list[Decision]) -> None:
    """By a clock that gives the challenger 1.5 ms a decision and the champion 1."""
    steps, now = Turns(), count()
    artefact = by_chance(tmp_path)

    def clock() -> int:
        next(now)
        return next(steps.times)

    found = time_decisions(artefact, artefact, decisions, clock)
    assert found == pytest.approx((0.0015, 0.001))
    faults = Conformance(promises={}, p99_s=found).faults(1.2, 0.0)
    assert faults == ["the p99 of a decision is 1.500 ms, 1.50 of the champion's 1.000 ms, and may be 1.2"]
    assert Conformance(promises={}, p99_s=found).faults(1.6, 0.0) == []
    # A policy that learns takes longer than chance, and no request is the slower for it.
    assert Conformance(promises={}, p99_s=(90e-6, 30e-6)).faults(1.2, 0.0005) == []
    assert len(Conformance(promises={}, p99_s=(900e-6, 300e-6)).faults(1.2, 0.0005)) == 1


class Turns:
    """A clock of who takes turns: before and after the challenger's decision, before and after the champion's."""

    def __init__(self) -> None:
        self.times = self._run()

    def _run(self) -> Iterator[int]:
        now = 0
        while True:
            for took in (1_500_000, 1_000_000):
                yield now
                now += took
                yield now


def test_a_policy_that_cannot_be_asked_keeps_no_promise(tmp_path: Path, decisions: list[Decision]) -> None:
    bare: Artefact = replace(learner(tmp_path), encoder=by_chance(tmp_path).encoder)
    found = check_promises(bare, decisions)
    assert all(fault is not None for fault in found.values())
    assert np.all([name in found for name in PROMISES])
