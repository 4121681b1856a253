"""A clock that jumps while a fold follows the log: the fold is what a fresh one of the same log is."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest

from data.reward import RewardSpec
from data.schema import Decision
from rl.encoders.customers import CustomerEncoder
from rl.online.fold import FoldSpec
from rl.online.learner import OnlineLearner
from rl.policies.crossed.policy import CrossedBandit
from rl.policy.interface import Policy
from tests.support.described import asked
from tests.support.logs import ITEMS, Written, described
from tests.support.shops import untrained

SPEC = FoldSpec(reward=RewardSpec(wait_s=60.0, default=-0.1), learn_from="all")
DAY, SECONDS = 86_400, 120
JUMPS: dict[str, Sequence[tuple[int, int, float]]] = {
    "none": (),
    "ten minutes ahead": ((60, 65, 600),),
    "a day ahead": ((60, 65, DAY),),
    "ten minutes back": ((60, 65, -600),),
    "a day back": ((60, 65, -DAY),),
    "less than the wait, both ways": ((30, 35, 30), (70, 75, -30)),
    "both ways": ((30, 35, 600), (50, 55, -600), (75, 77, DAY), (90, 95, -DAY)),
    "for good, ahead": ((60, 10_000, 3_600),),
    "for good, back": ((60, 10_000, -3_600),),
}
"""From which second until which the clock is off, and by how many."""


def learner(log: Written, encoder: CustomerEncoder) -> OnlineLearner:
    names = ("linear_thompson", "rfm_bandit")
    artefacts = {"described": described(history=6), **{name: untrained(encoder, name) for name in names}}
    return OnlineLearner(log.store, artefacts, SPEC, log.clock)


def live(log: Written, following: OnlineLearner, jumps: Sequence[tuple[int, int, float]]) -> None:
    """Let two minutes pass with a decision a second, half of them reported some seconds later, some twice."""
    rng = np.random.default_rng(1)
    waiting = list[tuple[int, Decision, str]]()
    for second in range(SECONDS):
        log.clock.off = timedelta(seconds=sum(by for since, until, by in jumps if since <= second < until))
        decision = log.decide()
        for kind in ("click", "purchase"):
            if rng.random() < 0.4:
                waiting.append((second + int(rng.integers(0, 70)), decision, kind))
        for at, reported, kind in [one for one in waiting if one[0] == second]:
            log.report(reported, kind, slot=at % 2)
        following.poll()
        log.clock.advance(1)


def beliefs(following: OnlineLearner, name: str) -> list[np.ndarray]:
    """Return what a policy has learned; of one whose places depend on the order, what it expects."""
    policy: Policy = following.publication().artefacts[name].policy
    if isinstance(policy, CrossedBandit):
        asks = [asked(ITEMS, {"where": f"page{n % 3}", "hour": n % 5}) for n in range(6)]
        return [policy.expected(query) for query in asks]
    return list(policy.state_dict().values())


@pytest.mark.slow
@pytest.mark.parametrize("shape", JUMPS)
def test_a_fold_that_lived_through_jumps_is_a_fresh_one(log: Written, encoder: CustomerEncoder, shape: str) -> None:
    following = learner(log, encoder)
    live(log, following, JUMPS[shape])
    log.clock.off = timedelta(seconds=sum(by for _, until, by in JUMPS[shape] if until > SECONDS))
    log.clock.advance(3 * 60)  # two waits and some: nothing is open, though stamps of a day ahead are in the log
    following.poll()
    assert following.waiting == 0
    assert following.set_aside.count == 0
    fresh = learner(log, encoder)
    fresh.catch_up()
    assert fresh.waiting == 0
    assert following.histories is not None
    assert fresh.histories is not None
    assert following.histories._slates == fresh.histories._slates
    for name in ("described", "linear_thompson", "rfm_bandit"):
        for one, other in zip(beliefs(following, name), beliefs(fresh, name), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
    counts = following.publication().artefacts["rfm_bandit"].policy.state_dict()["counts"]
    assert counts.sum() == 2 * len(log.made)  # every slot of every decision, once


def test_feedback_counts_by_its_stamp_however_late_it_is_read(log: Written, encoder: CustomerEncoder) -> None:
    following = learner(log, encoder)
    decision = log.decide()
    log.clock.off = timedelta(days=1)
    following.poll()  # the window is closed: silence is learned
    log.clock.off = timedelta()
    log.clock.advance(30)
    log.report(decision, "purchase")
    following.poll()
    sums = following.publication().artefacts["rfm_bandit"].policy.state_dict()["sums"]
    assert sums.sum() == pytest.approx(5.0 - 0.1)


def test_what_was_decided_and_reported_on_two_sides_of_a_long_jump_is_late(
    log: Written, encoder: CustomerEncoder
) -> None:
    following = learner(log, encoder)
    log.clock.off = timedelta(days=1)
    ahead = log.decide()
    log.clock.off = timedelta()
    log.report(ahead, "purchase")
    log.report(log.decide(), "purchase")
    log.clock.advance(3 * 60)
    following.catch_up()
    sums = following.publication().artefacts["rfm_bandit"].policy.state_dict()["sums"]
    assert sums.sum() == pytest.approx(2 * -0.1 + 5.0 - 0.1)
